// TLS and HTTPS probes against `openssl s_server` on loopback, with certificates made here.
#include <doctest/doctest.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/asio.hpp>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "control/health/prober.h"

using namespace detour;
using namespace std::chrono_literals;
namespace asio = boost::asio;
using asio::ip::tcp;
using config::ProbeType;
using config::TlsVerify;
using health::Cause;
using health::Outcome;

namespace {

using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;

/// A folder of its own, gone with the test.
struct Folder {
    std::string path;
    Folder() {
        char name[] = "/tmp/detour-tls-XXXXXX";
        REQUIRE(mkdtemp(name) != nullptr);
        path = name;
    }
    ~Folder() { std::filesystem::remove_all(path); }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
};

void write_pem(const std::string& path, X509* certificate, EVP_PKEY* key) {
    std::FILE* file = std::fopen(path.c_str(), "w");
    REQUIRE(file != nullptr);
    REQUIRE(PEM_write_X509(file, certificate) == 1);
    if (key != nullptr) REQUIRE(PEM_write_PrivateKey(file, key, nullptr, nullptr, 0, nullptr, nullptr) == 1);
    std::fclose(file);
}

/// Signs itself; valid from `begin` to `end`, seconds from now, for talk.example and its authority alike.
/// NAME.pem has the certificate and its key, NAME-ca.pem the certificate alone.
void make_certificate(const Folder& folder, const std::string& name, long begin, long end) {
    const Key key(EVP_EC_gen("P-256"), &EVP_PKEY_free);
    const Certificate made(X509_new(), &X509_free);
    REQUIRE(key);
    X509_set_version(made.get(), 2);
    ASN1_INTEGER_set(X509_get_serialNumber(made.get()), 1);
    X509_gmtime_adj(X509_getm_notBefore(made.get()), begin);
    X509_gmtime_adj(X509_getm_notAfter(made.get()), end);
    X509_set_pubkey(made.get(), key.get());
    X509_NAME* subject = X509_get_subject_name(made.get());
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
                               reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
    X509_set_issuer_name(made.get(), subject);
    X509_EXTENSION* names = X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, "DNS:talk.example");
    REQUIRE(names != nullptr);
    X509_add_ext(made.get(), names, -1);
    X509_EXTENSION_free(names);
    REQUIRE(X509_sign(made.get(), key.get(), EVP_sha256()) > 0);
    write_pem(folder.path + "/" + name + ".pem", made.get(), key.get());
    write_pem(folder.path + "/" + name + "-ca.pem", made.get(), nullptr);
}

/// `openssl s_server`, which tells its port when it listens and answers GET with a page about itself.
class Server {
  public:
    Server(const std::string& pem, const std::string& host) {
        int ends[2];
        REQUIRE(pipe(ends) == 0);
        pid_ = fork();
        REQUIRE(pid_ >= 0);
        if (pid_ == 0) {
            dup2(ends[1], 1);
            dup2(ends[1], 2);
            close(ends[0]);
            close(ends[1]);
            const std::string at = host + ":0";
            execlp("openssl", "openssl", "s_server", "-accept", at.c_str(), "-cert", pem.c_str(), "-key",
                   pem.c_str(), "-www", static_cast<char*>(nullptr));
            _exit(127);
        }
        close(ends[1]);
        out_ = ends[0];
        read_port();
    }
    ~Server() {
        kill(pid_, SIGKILL);
        waitpid(pid_, nullptr, 0);
        close(out_);
    }
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;
    [[nodiscard]] api::Port port() const { return api::Port(port_); }

  private:
    /// "ACCEPT 127.0.0.1:34567"
    void read_port() {
        std::string text;
        std::size_t at = std::string::npos;
        char c = 0;
        while (at == std::string::npos || text.back() != '\n') {
            const bool more = read(out_, &c, 1) == 1;
            REQUIRE_MESSAGE(more, text);
            text += c;
            if (c == '\n') at = text.find("ACCEPT ");
        }
        port_ = static_cast<std::uint16_t>(std::stoi(text.substr(text.rfind(':') + 1)));
    }

    pid_t pid_ = -1;
    int out_ = -1;
    std::uint16_t port_ = 0;
};

/// Accepts and says `text`; an empty one: says nothing until the other side leaves.
class PlainServer {
  public:
    PlainServer(asio::io_context& io, std::string text)
        : acceptor_(io, {asio::ip::address_v4::loopback(), 0}), text_(std::move(text)) {
        asio::co_spawn(io, serve(), asio::detached);
    }
    [[nodiscard]] api::Port port() const { return api::Port(acceptor_.local_endpoint().port()); }

  private:
    asio::awaitable<void> serve() {
        boost::system::error_code ec;
        auto quiet = asio::redirect_error(asio::use_awaitable, ec);
        auto socket = co_await acceptor_.async_accept(asio::use_awaitable);
        std::array<char, 4096> hello;
        co_await socket.async_read_some(asio::buffer(hello), quiet);
        if (text_ == "close") co_return;
        co_await asio::async_write(socket, asio::buffer(text_), quiet);
        while (!ec) co_await socket.async_read_some(asio::buffer(hello), quiet);
    }

    tcp::acceptor acceptor_;
    std::string text_;
};

struct Bench {
    asio::io_context io;
    std::map<std::uint64_t, Outcome> outcomes;
    health::Prober prober{io, {}, [this](std::uint64_t serial, const Outcome& outcome) {
                              CHECK(!outcomes.contains(serial));
                              outcomes[serial] = outcome;
                          }};

    Outcome probe(const std::string& address, api::Port port, config::Health health) {
        health.port = port;
        if (health.status.empty()) health.status = {200};
        prober.send({api::BackendId(1), 7, api::IpAddress::parse(address).value(),
                     std::make_shared<config::Health>(health)});
        const auto limit = std::chrono::steady_clock::now() + 10s;
        while (outcomes.empty() && std::chrono::steady_clock::now() < limit) io.run_one_for(100ms);
        REQUIRE(outcomes.size() == 1);
        const Outcome outcome = outcomes.at(7);
        outcomes.clear();
        return outcome;
    }
};

config::Health tls(TlsVerify verify = TlsVerify::kNone, std::string ca_file = "", std::string name = "") {
    config::Health health;
    health.type = ProbeType::kTls;
    health.timeout = 5s;
    health.verify = verify;
    health.ca_file = std::move(ca_file);
    health.server_name = std::move(name);
    return health;
}

config::Health https(std::string body, std::vector<std::uint16_t> status = {200}) {
    config::Health health = tls();
    health.type = ProbeType::kHttps;
    health.body = std::move(body);
    health.status = std::move(status);
    return health;
}

constexpr long kDay = 86'400;

}  // namespace

TEST_CASE("each certificate has its own cause") {
    const Folder folder;
    make_certificate(folder, "valid", -kDay, 9 * kDay);
    make_certificate(folder, "expired", -2 * kDay, -kDay);
    make_certificate(folder, "early", kDay, 2 * kDay);
    make_certificate(folder, "other", -kDay, kDay);
    const auto ca = [&](const char* name) { return folder.path + "/" + name + "-ca.pem"; };
    const auto chain = TlsVerify::kChain;
    struct Row {
        const char* certificate;
        config::Health health;
        Cause cause;
    };
    const std::vector<Row> rows = {
        {"valid", tls(), Cause::kOk},
        {"valid", tls(chain, ca("valid")), Cause::kOk},
        {"valid", tls(TlsVerify::kName, ca("valid"), "talk.example"), Cause::kOk},
        {"valid", tls(TlsVerify::kName, ca("valid"), "login.example"), Cause::kCertificateName},
        {"valid", tls(chain, ca("other")), Cause::kCertificateUntrusted},
        {"valid", tls(chain), Cause::kCertificateUntrusted},
        {"valid", tls(chain, folder.path + "/none.pem"), Cause::kNotSent},
        {"valid", https(""), Cause::kOk},
        {"valid", https("s_server"), Cause::kOk},
        {"valid", https("no such text"), Cause::kBadBody},
        {"valid", https("", {204}), Cause::kBadStatus},
        {"expired", tls(), Cause::kCertificateExpired},
        {"expired", tls(chain, ca("expired")), Cause::kCertificateExpired},
        {"expired", https(""), Cause::kCertificateExpired},
        {"early", tls(), Cause::kCertificateEarly},
    };
    for (const char* host : {"127.0.0.1", "[::1]"}) {
        std::map<std::string, std::unique_ptr<Server>> servers;
        for (const Row& row : rows) {
            auto& server = servers[row.certificate];
            if (!server)
                server = std::make_unique<Server>(folder.path + "/" + row.certificate + ".pem", host);
            CAPTURE(host);
            CAPTURE(&row - rows.data());
            Bench bench;
            const std::string address = host[0] == '[' ? "::1" : host;
            const Outcome outcome = bench.probe(address, server->port(), row.health);
            CHECK(outcome.cause == row.cause);
            CHECK((outcome.round_trip > 0ns) == (row.cause == Cause::kOk));
            CHECK(outcome.certificate_end.has_value() == (row.cause != Cause::kNotSent));
        }
    }
}

TEST_CASE("the certificate's end is reported to the second") {
    const Folder folder;
    const auto before = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
    make_certificate(folder, "valid", -kDay, 9 * kDay);
    const auto after = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
    const Server server(folder.path + "/valid.pem", "127.0.0.1");
    Bench bench;
    const Outcome outcome = bench.probe("127.0.0.1", server.port(), tls());
    REQUIRE(outcome.certificate_end.has_value());
    CHECK(*outcome.certificate_end >= before + std::chrono::days(9));
    CHECK(*outcome.certificate_end <= after + std::chrono::days(9));
}

TEST_CASE("a changed ca_file counts from the next probe on") {
    const Folder folder;
    make_certificate(folder, "valid", -kDay, kDay);
    make_certificate(folder, "other", -kDay, kDay);
    const std::string file = folder.path + "/ca.pem";
    std::filesystem::copy_file(folder.path + "/other-ca.pem", file);
    const Server server(folder.path + "/valid.pem", "127.0.0.1");
    Bench bench;
    const auto health = tls(TlsVerify::kChain, file);
    CHECK(bench.probe("127.0.0.1", server.port(), health).cause == Cause::kCertificateUntrusted);
    std::filesystem::copy_file(folder.path + "/valid-ca.pem", file,
                               std::filesystem::copy_options::overwrite_existing);
    std::filesystem::last_write_time(file, std::filesystem::last_write_time(file) + 1s);
    CHECK(bench.probe("127.0.0.1", server.port(), health).cause == Cause::kOk);
}

TEST_CASE("what speaks no TLS has its own cause") {
    struct Row {
        const char* name;
        std::string text;
        Cause cause;
    };
    const std::vector<Row> rows = {
        {"plain HTTP", "HTTP/1.1 400 Bad Request\r\n\r\n", Cause::kTlsFailed},
        {"garbage", std::string(5000, '\x5a'), Cause::kTlsFailed},
        {"an alert", std::string("\x15\x03\x03\x00\x02\x02\x28", 7), Cause::kTlsFailed},
        {"closes", "close", Cause::kReset},
        {"silent", "", Cause::kTimeout},
    };
    for (const ProbeType type : {ProbeType::kTls, ProbeType::kHttps}) {
        for (const Row& row : rows) {
            CAPTURE(row.name);
            Bench bench;
            const PlainServer server(bench.io, row.text);
            config::Health health = tls();
            health.type = type;
            if (row.text.empty()) health.timeout = 50ms;
            CHECK(bench.probe("127.0.0.1", server.port(), health).cause == row.cause);
            CHECK(bench.prober.in_flight() == 0);
        }
    }
}
