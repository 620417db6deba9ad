// The validated configuration: what one TOML file or a folder of them says, with every default filled in.
//
// Plain data. load() is the only maker; whoever holds a Config may rely on the ranges below, on names being
// unique and on every reference leading somewhere. No threading: values.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dataplane/api/types.h"

namespace detour::config {

using std::chrono::milliseconds;

/// Where in the files a thing was said, for messages: "pools.d/talk.toml:12:3".
struct Origin {
    std::string file;
    std::uint32_t line = 0;
    std::uint32_t column = 0;
    [[nodiscard]] std::string to_string() const;
};

enum class ProbeType : std::uint8_t { kTcp, kHttp, kHttps, kTls, kUdp, kDns, kIcmp, kGrpc, kGrpcs };
/// The word of the configuration: "tcp", "http", …
[[nodiscard]] std::string_view to_string(ProbeType type) noexcept;

/// Which way a probe takes to the backend.
enum class Via : std::uint8_t {
    kDirect,  ///< to its own address
    kTunnel,  ///< to the VIP, encapsulated as traffic is
};
[[nodiscard]] std::string_view to_string(Via via) noexcept;

enum class HttpMethod : std::uint8_t { kGet, kHead, kOptions, kPost };
[[nodiscard]] std::string_view to_string(HttpMethod method) noexcept;

enum class SiteTier : std::uint8_t { kActive, kHot, kWarm, kCold };

/// What is asked of a server's certificate beyond its dates.
enum class TlsVerify : std::uint8_t {
    kNone,
    kChain,  ///< signed by an authority that we know
    kName,   ///< and made out to server_name
};
[[nodiscard]] std::string_view to_string(TlsVerify verify) noexcept;

/// Values of RFC 1035 and 3596.
enum class DnsType : std::uint16_t {
    kA = 1,
    kNs = 2,
    kCname = 5,
    kSoa = 6,
    kPtr = 12,
    kMx = 15,
    kTxt = 16,
    kAaaa = 28
};
enum class DnsRcode : std::uint8_t {
    kNoError = 0,
    kFormErr = 1,
    kServFail = 2,
    kNxDomain = 3,
    kNotImp = 4,
    kRefused = 5
};

struct Health {
    ProbeType type = ProbeType::kTcp;
    api::Port port;  ///< default: the pool's first VIP's port
    HttpMethod method = HttpMethod::kGet;
    std::string path = "/";             ///< http
    std::string host;                   ///< http Host header; default: the backend's address
    std::vector<std::uint16_t> status;  ///< http; default {200}
    std::string body;                   ///< http: must stand in the answer's body; empty: any body
    std::string server_name;            ///< tls, https: the name that is asked for (SNI); empty: none
    TlsVerify verify = TlsVerify::kNone;
    std::string ca_file;  ///< PEM; empty: the system's authorities
    std::string payload;  ///< udp: the bytes that are sent
    std::string expect;   ///< udp: how the answer must begin; empty: any answer
    std::string query;    ///< dns: the name that is asked for
    DnsType query_type = DnsType::kA;
    DnsRcode rcode = DnsRcode::kNoError;  ///< dns: the answer that counts as healthy
    std::string service;                  ///< grpc, grpcs: asked for in the request; empty: the whole server
    Via via = Via::kDirect;
    bool full_size = false;          ///< through the tunnel: as large as the tunnel carries
    std::uint32_t warn_days = 14;    ///< before a certificate ends; 0: no alarm
    milliseconds interval{200};      ///< 20 ms … 1 h
    milliseconds timeout{200};       ///< 10 ms … 1 min
    milliseconds fast_interval{50};  ///< 10 ms … interval: after a first miss
    double jitter = 0;               ///< 0 … 0.5 of the interval: at most this much later than its turn
    std::uint32_t fall = 3;          ///< 1 … 100 misses in a row: down
    std::uint32_t rise = 2;          ///< 1 … 100 answers in a row: up
    bool operator==(const Health&) const = default;
};

/// Which sites may serve a pool, by what the data behind it allows.
enum class Data : std::uint8_t {
    kAny,
    kSingleWriter,  ///< only the one that the data layer elected; `ready` asks
};
/// The word of the configuration: "any", "single-writer".
[[nodiscard]] std::string_view to_string(Data data) noexcept;

struct Backend {
    std::string site;
    api::IpAddress address;
    std::uint32_t weight = 100;  ///< 0 … 65535
    /// hash = "quic-cid": what names it in connection ids; at most one for each configuration.
    std::vector<api::QuicServerId> server_ids;
    Origin origin;
};

struct PoolSite {
    std::string site;
    std::uint32_t weight = 100;  ///< of the site in this pool; 0 … 65535
};

struct Pool {
    std::string name;
    std::vector<api::Vip> vips;
    api::Encap encap = api::Encap::kGue;
    api::HashKey hash = api::HashKey::kFiveTuple;
    api::Stranded stranded = api::Stranded::kReset;  ///< default: reset, or rehash if all VIPs are UDP
    api::Refusal on_empty = api::Refusal::kDrop;     ///< of new flows that no site takes
    std::uint32_t priority = 100;                    ///< 1 is shed last
    std::uint32_t min_sites = 1;
    std::uint32_t max_backends = 64;  ///< per site, 1 … 4096
    std::vector<std::string> depends_on;
    bool follow = false;  ///< leaves a site together with what it depends on there
    Data data = Data::kAny;
    Health ready;  ///< single-writer: a backend that answers it says that its site is primary
    std::vector<PoolSite> site_weights;  ///< `site_weight = { pangyo = 100 }`, absent sites: 100
    Health health;
    std::vector<Backend> backends;
    Origin origin;
};

struct Capacity {
    std::uint64_t new_flows = 0;  ///< per second; 0: not stated
    double gbps = 0;              ///< client-to-site; 0: not stated
};

/// What is done to make a site of a lower tier ready. Neither a command nor a URL: nothing.
struct Activation {
    std::vector<std::string> command;  ///< program and arguments
    std::string url;                   ///< http:// or https://, asked by POST; an answer of 2xx is a success
    std::string ca_file;               ///< https; empty: the system's authorities
    milliseconds deadline{600'000};    ///< 1 s … 24 h
    bool operator==(const Activation&) const = default;
    [[nodiscard]] bool configured() const { return !command.empty() || !url.empty(); }
};

/// A BFD session (RFC 5880) with a router of a site: `probe = [{ type = "bfd", … }]`.
struct BfdPeer {
    api::IpAddress address;
    std::optional<api::IpAddress> source;  ///< of this host, the same family; absent: by route
    std::string interface;                 ///< empty: any
    bool multihop = true;                  ///< RFC 5883; else RFC 5881, a router on a link of this host
    std::uint8_t min_ttl = 0;              ///< multihop: packets that arrive with less are dropped
    milliseconds interval{50};             ///< 10 ms … 10 s, both directions
    std::uint8_t multiplier = 3;           ///< 1 … 255 intervals of silence: down
    bool operator==(const BfdPeer&) const = default;
};
/// Of all sites together.
inline constexpr std::size_t kMaxBfdPeers = 64;
inline constexpr std::size_t kMaxBfdPeersPerSite = 8;

struct Site {
    std::string name;
    std::string key;                  ///< what the hash uses; default: name. Keep it when renaming a site.
    std::vector<std::string> domain;  ///< widest first
    SiteTier tier = SiteTier::kActive;
    Activation activation;  ///< warm and cold only
    Capacity capacity;
    std::vector<BfdPeer> bfd;
    Origin origin;
};

struct Pop {
    std::string name;
    double share = 1.0;      ///< 0 < share <= 1
    std::string fleet_seed;  ///< at least 16 characters, no placeholder
};

struct Dataplane {
    std::vector<std::string> ports;
    std::uint32_t workers = 1;  ///< 1 … 64
    std::optional<api::IpAddress> source_v4;
    std::optional<api::IpAddress> source_v6;
    std::uint64_t flows_per_worker = 1U << 20U;  ///< IPv4 flows; IPv6 a quarter of it; 2^10 … 2^26
    std::uint32_t resets_per_second = 2000;
    std::uint32_t icmp_per_second = 1000;
    std::string socket = "/run/detour/dataplane.sock";
    std::string state_dir = "/var/lib/detour/dataplane";
};

struct Control {
    std::vector<api::IpAddress> probe_source;  ///< of tunnel probes, at most one of each family
    std::uint32_t probe_mark = 54'321;  ///< of tunnel probes' packets, and number of their routing table
    std::string socket = "/run/detour/control.sock";  ///< HTTP API
    std::string state_dir = "/var/lib/detour/control";
};

/// What becomes of a new flow that no site has room for.
struct Failover {
    double panic_threshold = 0.5;  ///< 0 … 1 of a site's backends
    double dark_threshold = 0.0;   ///< share of a site's backends at or below which it is dark
    double return_threshold =
        0.0;  ///< share above which a dark one comes back; dark_threshold where that is higher
    /// A site takes its whole share while its healthy part times this is 1 or more. 1 … 10.
    double overprovisioning = 1.4;
    std::uint32_t max_dark_sites = 1;
    api::Refusal shed = api::Refusal::kDrop;   ///< what a new flow gets that no site has room for
    milliseconds ramp{300'000};                ///< 0 … 24 h
    milliseconds strand_after{2'000};          ///< 0 … 10 min
    milliseconds auto_return_within{600'000};  ///< 0 … 24 h
    milliseconds flap_hold{10'000};            ///< before the second return in a row; doubles; 0 … 1 h
    milliseconds flap_hold_most{600'000};      ///< its bound; flap_hold … 24 h
    milliseconds flap_forget{600'000};  ///< half of a site's flaps are forgotten in this time; 1 s … 24 h
    milliseconds confirm_timeout{100};  ///< 10 ms … 10 s: for a probe to contradict BFD
};

struct Config {
    Pop pop;
    Dataplane dataplane;
    Control control;
    Failover failover;
    std::vector<Site> sites;
    std::vector<Pool> pools;

    [[nodiscard]] const Site* find_site(std::string_view name) const;
    [[nodiscard]] const Pool* find_pool(std::string_view name) const;
};

}  // namespace detour::config
