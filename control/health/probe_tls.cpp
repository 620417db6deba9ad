#include "control/health/probe_tls.h"

#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <array>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <chrono>
#include <ctime>
#include <filesystem>
#include <map>
#include <string>
#include <system_error>

#include "control/health/probe_grpc.h"
#include "control/health/probe_http.h"
#include "control/health/probe_io.h"

namespace detour::health {

namespace asio = boost::asio;
using asio::awaitable;
using asio::ip::tcp;
using boost::system::error_code;
using std::chrono::sys_seconds;

struct TlsContexts::Context {
    asio::ssl::context context{asio::ssl::context::tls_client};
    std::filesystem::file_time_type read_at;  ///< the file's own time when it was read
};

struct TlsContexts::Impl {
    std::shared_ptr<Context> unverified;
    std::map<std::string, std::shared_ptr<Context>> by_file;
};

namespace {

/// Certificates are judged behind the handshake (check_certificate), so that each fault gets its own cause.
std::shared_ptr<TlsContexts::Context> make_context() {
    auto made = std::make_shared<TlsContexts::Context>();
    made->context.set_verify_mode(asio::ssl::verify_none);
    made->context.set_options(SSL_OP_IGNORE_UNEXPECTED_EOF);
    return made;
}

std::optional<sys_seconds> time_of(const ASN1_TIME* time) {
    std::tm parts{};
    if (ASN1_TIME_to_tm(time, &parts) != 1) return std::nullopt;
    return sys_seconds(std::chrono::seconds(timegm(&parts)));
}

Cause verified(SSL* ssl, X509* certificate, const config::Health& health) {
    if (health.verify == config::TlsVerify::kNone) return Cause::kOk;
    const long result = SSL_get_verify_result(ssl);
    if (result == X509_V_ERR_CERT_HAS_EXPIRED) return Cause::kCertificateExpired;
    if (result == X509_V_ERR_CERT_NOT_YET_VALID) return Cause::kCertificateEarly;
    if (result != X509_V_OK) return Cause::kCertificateUntrusted;
    if (health.verify == config::TlsVerify::kChain) return Cause::kOk;
    const std::string& name = health.server_name;
    const bool fits = X509_check_host(certificate, name.data(), name.size(), 0, nullptr) == 1 ||
                      X509_check_ip_asc(certificate, name.c_str(), 0) == 1;
    return fits ? Cause::kOk : Cause::kCertificateName;
}

Outcome check_certificate(SSL* ssl, const config::Health& health) {
    const std::unique_ptr<X509, decltype(&X509_free)> certificate(SSL_get1_peer_certificate(ssl), &X509_free);
    if (!certificate) return {Cause::kTlsFailed, 0, {}};
    const auto begin = time_of(X509_get0_notBefore(certificate.get()));
    const auto end = time_of(X509_get0_notAfter(certificate.get()));
    if (!begin || !end) return {Cause::kTlsFailed, 0, {}};
    const auto now = std::chrono::system_clock::now();
    Cause cause = verified(ssl, certificate.get(), health);
    if (now < *begin) cause = Cause::kCertificateEarly;
    if (now > *end) cause = Cause::kCertificateExpired;
    return {cause, 0, {}, end};
}

}  // namespace

TlsContexts::TlsContexts() : impl_(std::make_unique<Impl>()) {}
TlsContexts::~TlsContexts() = default;

std::shared_ptr<TlsContexts::Context> TlsContexts::find(const config::Health& health) {
    if (health.verify == config::TlsVerify::kNone) {
        if (!impl_->unverified) impl_->unverified = make_context();
        return impl_->unverified;
    }
    std::error_code no_file;
    std::filesystem::file_time_type written;
    if (!health.ca_file.empty()) written = std::filesystem::last_write_time(health.ca_file, no_file);
    if (no_file) return nullptr;
    auto& known = impl_->by_file[health.ca_file];
    if (known && known->read_at == written) return known;
    auto fresh = make_context();
    error_code ec;
    if (health.ca_file.empty()) fresh->context.set_default_verify_paths(ec);
    if (!health.ca_file.empty()) fresh->context.load_verify_file(health.ca_file, ec);
    if (ec) return nullptr;
    fresh->read_at = written;
    return known = fresh;
}

awaitable<Outcome> tls_probe(tcp::socket& socket, const ProbeRequest& asked, TlsContexts& contexts) {
    const config::Health& health = *asked.health;
    const auto context = contexts.find(health);
    if (!context) co_return Outcome{};
    asio::ssl::stream<tcp::socket&> stream(socket, context->context);
    if (!health.server_name.empty() &&
        SSL_set_tlsext_host_name(stream.native_handle(), health.server_name.c_str()) != 1)
        co_return Outcome{};
    constexpr std::array<unsigned char, 3> kHttp2{2, 'h', '2'};  // ALPN, RFC 7301
    if (health.type == config::ProbeType::kGrpcs &&
        SSL_set_alpn_protos(stream.native_handle(), kHttp2.data(), kHttp2.size()) != 0)
        co_return Outcome{};
    const auto [ec] = co_await stream.async_handshake(asio::ssl::stream_base::client, kTuple);
    if (ec) co_return Outcome{cause_of(ec), 0, {}};
    Outcome outcome = check_certificate(stream.native_handle(), health);
    if (outcome.cause == Cause::kOk && health.type != config::ProbeType::kTls) {
        const auto end = outcome.certificate_end;
        if (health.type == config::ProbeType::kGrpcs)
            outcome = co_await grpc_call(stream, asked);
        else
            outcome = co_await http_exchange(stream, asked);
        outcome.certificate_end = end;
    }
    co_return outcome;
}

}  // namespace detour::health
