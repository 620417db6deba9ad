// The words of the configuration's language and what each stands for, and which probe type has which keys.
//
// Data for load.cpp alone, apart from it for its length.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "config/model.h"
#include "dataplane/api/types.h"

namespace detour::config {

/// A word of the language and what it stands for; without a value, a word of a later version.
template <class E>
struct Word {
    std::string_view text;
    std::optional<E> value;
};

inline constexpr std::array<Word<api::Encap>, 3> kEncaps{
    {{"ipip", api::Encap::kIpip}, {"gue", api::Encap::kGue}, {"gre", api::Encap::kGre}}};
inline constexpr std::array<Word<api::HashKey>, 3> kHashes{{{"5-tuple", api::HashKey::kFiveTuple},
                                                            {"source", api::HashKey::kSource},
                                                            {"quic-cid", api::HashKey::kQuicCid}}};
inline constexpr std::array<Word<api::Stranded>, 3> kStrandeds{
    {{"reset", api::Stranded::kReset}, {"rehash", api::Stranded::kRehash}, {"keep", api::Stranded::kKeep}}};
inline constexpr std::array<Word<SiteTier>, 4> kTiers{{{"active", SiteTier::kActive},
                                                       {"hot", SiteTier::kHot},
                                                       {"warm", SiteTier::kWarm},
                                                       {"cold", SiteTier::kCold}}};
inline constexpr std::array<Word<ProbeType>, 10> kProbes{{{"tcp", ProbeType::kTcp},
                                                          {"http", ProbeType::kHttp},
                                                          {"https", ProbeType::kHttps},
                                                          {"tls", ProbeType::kTls},
                                                          {"grpc", ProbeType::kGrpc},
                                                          {"grpcs", ProbeType::kGrpcs},
                                                          {"udp", ProbeType::kUdp},
                                                          {"dns", ProbeType::kDns},
                                                          {"icmp", ProbeType::kIcmp},
                                                          {"bfd", std::nullopt}}};
enum class SiteProbe : std::uint8_t { kBfd };
inline constexpr std::array<Word<SiteProbe>, 6> kSiteProbes{{{"bfd", SiteProbe::kBfd},
                                                             {"tcp", std::nullopt},
                                                             {"http", std::nullopt},
                                                             {"https", std::nullopt},
                                                             {"tls", std::nullopt},
                                                             {"icmp", std::nullopt}}};
inline constexpr std::array<Word<HttpMethod>, 4> kMethods{{{"GET", HttpMethod::kGet},
                                                           {"HEAD", HttpMethod::kHead},
                                                           {"OPTIONS", HttpMethod::kOptions},
                                                           {"POST", HttpMethod::kPost}}};
inline constexpr std::array<Word<TlsVerify>, 3> kVerifies{
    {{"none", TlsVerify::kNone}, {"chain", TlsVerify::kChain}, {"name", TlsVerify::kName}}};
inline constexpr std::array<Word<DnsType>, 8> kDnsTypes{{{"A", DnsType::kA},
                                                         {"AAAA", DnsType::kAaaa},
                                                         {"CNAME", DnsType::kCname},
                                                         {"MX", DnsType::kMx},
                                                         {"NS", DnsType::kNs},
                                                         {"PTR", DnsType::kPtr},
                                                         {"SOA", DnsType::kSoa},
                                                         {"TXT", DnsType::kTxt}}};
inline constexpr std::array<Word<DnsRcode>, 6> kRcodes{{{"noerror", DnsRcode::kNoError},
                                                        {"formerr", DnsRcode::kFormErr},
                                                        {"servfail", DnsRcode::kServFail},
                                                        {"nxdomain", DnsRcode::kNxDomain},
                                                        {"notimp", DnsRcode::kNotImp},
                                                        {"refused", DnsRcode::kRefused}}};
inline constexpr std::array<Word<Via>, 2> kVias{{{"direct", Via::kDirect}, {"tunnel", Via::kTunnel}}};
inline constexpr std::array<Word<api::Refusal>, 2> kRefusals{
    {{"drop", api::Refusal::kDrop}, {"reset", api::Refusal::kReset}}};
inline constexpr std::array<Word<Data>, 2> kDatas{
    {{"any", Data::kAny}, {"single-writer", Data::kSingleWriter}}};

/// The keys of [pool.health] that only some types have, a bit for each type.
struct OwnKey {
    std::string_view key;
    std::uint32_t types;
};
constexpr std::uint32_t bit(ProbeType type) {
    return 1U << static_cast<unsigned>(type);
}
inline constexpr std::uint32_t kHttpTypes = bit(ProbeType::kHttp) | bit(ProbeType::kHttps);
inline constexpr std::uint32_t kTlsTypes =
    bit(ProbeType::kTls) | bit(ProbeType::kHttps) | bit(ProbeType::kGrpcs);
inline constexpr std::uint32_t kGrpcTypes = bit(ProbeType::kGrpc) | bit(ProbeType::kGrpcs);
/// Those that can be made as large as a tunnel carries.
inline constexpr std::uint32_t kSizableTypes = kHttpTypes | bit(ProbeType::kIcmp);
inline constexpr std::array<OwnKey, 17> kOwnKeys{{{"port", ~bit(ProbeType::kIcmp)},
                                                  {"method", kHttpTypes},
                                                  {"path", kHttpTypes},
                                                  {"host", kHttpTypes},
                                                  {"status", kHttpTypes},
                                                  {"body", kHttpTypes},
                                                  {"server_name", kTlsTypes},
                                                  {"verify", kTlsTypes},
                                                  {"ca_file", kTlsTypes},
                                                  {"warn_days", kTlsTypes},
                                                  {"payload", bit(ProbeType::kUdp)},
                                                  {"expect", bit(ProbeType::kUdp)},
                                                  {"query", bit(ProbeType::kDns)},
                                                  {"query_type", bit(ProbeType::kDns)},
                                                  {"rcode", bit(ProbeType::kDns)},
                                                  {"service", kGrpcTypes},
                                                  {"full_size", kSizableTypes}}};

}  // namespace detour::config
