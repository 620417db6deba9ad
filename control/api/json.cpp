// Boost.JSON reads; the writer is ours, because 0.5 as "5E-1" is not what a person wants to see.
#include "control/api/json.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json.hpp>
#include <charconv>
#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>

#include "control/api/fields.h"

namespace detour::control {

namespace {

namespace json = boost::json;

// ---- Writing.

class Writer {
  public:
    explicit Writer(std::string& out) : out_(out) {}

    template <class T>
    void operator()(std::string_view name, const T& member) {
        if (!first_) out_ += ',';
        first_ = false;
        append_json_string(out_, name);
        out_ += ':';
        write(member);
    }
    template <class T>
    void optional(std::string_view name, const std::optional<T>& member) {
        if (member) (*this)(name, *member);
    }
    template <class T>
    requires requires(const T& value) { value.empty(); }
    void optional(std::string_view name, const T& member) {
        if (!member.empty()) (*this)(name, member);
    }
    void optional(std::string_view name, bool member) {
        if (member) (*this)(name, member);
    }

    void write(const std::string& value) { append_json_string(out_, value); }
    void write(bool value) { out_ += value ? "true" : "false"; }
    void write(Time value) { append_json_string(out_, to_text(value)); }
    void write(double value) {
        // JSON has no word for these; a reader must not get 0 for "not a number".
        out_ += std::isfinite(value) ? fmt::format("{}", value) : "null";
    }
    template <std::integral T>
    void write(T value) {
        out_ += fmt::format("{}", value);
    }
    template <class T>
    void write(const std::vector<T>& values) {
        out_ += '[';
        const char* separator = "";
        for (const T& value : values) {
            out_ += separator;
            separator = ",";
            write(value);
        }
        out_ += ']';
    }
    void write(const std::map<std::string, EventValue>& values) {
        Writer inner = open();
        for (const auto& [name, value] : values) {
            std::visit([&inner, &key = name](const auto& held) { inner(key, held); }, value);
        }
        out_ += '}';
    }
    template <class T>
    requires std::is_class_v<T>
    void write(const T& value) {
        Writer inner = open();
        fields(inner, value);
        out_ += '}';
    }

  private:
    Writer open() {
        out_ += '{';
        return Writer(out_);
    }

    std::string& out_;
    bool first_ = true;
};

// ---- Reading. The first error is kept with the member's path; what follows is skipped.

class Reader {
  public:
    Reader(const json::object& object, std::string path, std::string& error)
        : object_(object), path_(std::move(path)), error_(error) {}

    template <class T>
    void operator()(std::string_view name, T& member) {
        const json::value* value = find(name);
        if (value == nullptr) return fail(at(name), "is missing");
        read(*value, at(name), member);
    }
    template <class T>
    void optional(std::string_view name, std::optional<T>& member) {
        const json::value* value = find(name);
        if (value == nullptr || value->is_null()) return;
        member.emplace();
        read(*value, at(name), *member);
    }
    template <class T>
    void optional(std::string_view name, T& member) {
        if (const json::value* value = find(name)) read(*value, at(name), member);
    }

    template <class T>
    void read(const json::value& value, const std::string& where, T& member) {
        if (!error_.empty()) return;
        if constexpr (std::is_same_v<T, std::string>) {
            if (const auto* text = value.if_string()) {
                member.assign(text->data(), text->size());
            } else {
                fail(where, "is not text");
            }
        } else if constexpr (std::is_same_v<T, bool>) {
            if (const bool* flag = value.if_bool()) {
                member = *flag;
            } else {
                fail(where, "is not true or false");
            }
        } else if constexpr (std::is_same_v<T, Time>) {
            read_time(value, where, member);
        } else if constexpr (std::is_integral_v<T>) {
            read_whole(value, where, member);
        } else if constexpr (std::is_floating_point_v<T>) {
            read_number(value, where, member);
        } else {
            read_object(value, where, member);
        }
    }
    template <class T>
    void read(const json::value& value, const std::string& where, std::vector<T>& members) {
        if (!error_.empty()) return;
        const auto* array = value.if_array();
        if (array == nullptr) return fail(where, "is not a list");
        members.resize(array->size());
        for (std::size_t i = 0; i < members.size() && error_.empty(); ++i) {
            read((*array)[i], fmt::format("{}[{}]", where, i), members[i]);
        }
    }
    void read(const json::value& value, const std::string& where,
              std::map<std::string, EventValue>& members) {
        if (!error_.empty()) return;
        const auto* object = value.if_object();
        if (object == nullptr) return fail(where, "is not an object");
        for (const auto& member : *object) {
            members.emplace(std::string(member.key()), event_value(member.value()));
        }
    }

    /// After all fields were read: an error for a member that none asked for.
    void refuse_unknown() {
        if (present_.size() == object_.size()) return;
        for (const auto& member : object_) {
            if (std::ranges::find(present_, std::string_view(member.key())) == present_.end()) {
                return fail(at(member.key()), "is not known");
            }
        }
    }

  private:
    const json::value* find(std::string_view name) {
        const json::value* value = object_.if_contains(name);
        if (value != nullptr) present_.push_back(name);
        return value;
    }
    [[nodiscard]] std::string at(std::string_view name) const {
        return path_.empty() ? std::string(name) : fmt::format("{}.{}", path_, name);
    }
    void fail(const std::string& where, std::string_view what) {
        if (error_.empty()) error_ = fmt::format("{} {}", where.empty() ? "the document" : where, what);
    }
    void read_time(const json::value& value, const std::string& where, Time& member) {
        const auto* text = value.if_string();
        if (text == nullptr) return fail(where, "is not a time");
        auto time = parse_time({text->data(), text->size()});
        if (!time) return fail(where, "is not a time such as 2026-05-01T03:04:05Z");
        member = *time;
    }
    template <class T>
    void read_whole(const json::value& value, const std::string& where, T& member) {
        if (value.is_uint64() && std::in_range<T>(value.get_uint64())) {
            member = static_cast<T>(value.get_uint64());
        } else if (value.is_int64() && std::in_range<T>(value.get_int64())) {
            member = static_cast<T>(value.get_int64());
        } else {
            fail(where, fmt::format("is not a whole number from {} to {}", std::numeric_limits<T>::min(),
                                    std::numeric_limits<T>::max()));
        }
    }
    void read_number(const json::value& value, const std::string& where, double& member) {
        if (!value.is_number()) return fail(where, "is not a number");
        member = value.to_number<double>();
    }
    static EventValue event_value(const json::value& value) {
        if (value.is_bool()) return value.get_bool();
        if (value.is_int64()) return value.get_int64();
        if (value.is_double()) return value.get_double();
        if (value.is_string()) return std::string(value.get_string().c_str());
        return json::serialize(value);
    }
    template <class T>
    void read_object(const json::value& value, const std::string& where, T& member);

    const json::object& object_;
    std::string path_;
    std::string& error_;
    std::vector<std::string_view> present_;
};

template <class T>
void Reader::read_object(const json::value& value, const std::string& where, T& member) {
    const auto* object = value.if_object();
    if (object == nullptr) return fail(where, "is not an object");
    Reader inner(*object, where, error_);
    fields(inner, member);
    if constexpr (kStrict<T>) inner.refuse_unknown();
}

/// An ApiError's JSON form: the code by name.
struct ErrorText {
    std::string code, doing, what, rail, override_by;
    std::vector<std::string> details;
};

template <class V>
void fields(V& v, Like<ErrorText> auto& x) {
    v("code", x.code);
    v("doing", x.doing);
    v("what", x.what);
    v.optional("rail", x.rail);
    v.optional("override", x.override_by);
    v.optional("details", x.details);
}

api::Result<json::value> parse(std::string_view text) {
    boost::system::error_code error;
    json::parser parser;
    const std::size_t taken = parser.write_some(text.data(), text.size(), error);
    if (!error && taken < text.size()) error = json::error::extra_data;
    if (error) {
        return api::fail(api::ErrorCode::kInvalidArgument, "reading JSON",
                         fmt::format("{} at byte {}", error.message(), taken));
    }
    return parser.release();
}

template <class T>
api::Result<T> read_text(std::string_view text) {
    auto document = parse(text);
    if (!document) return tl::unexpected(document.error());
    T result{};
    std::string error;
    const json::object none;
    Reader(none, "", error).read(*document, "", result);
    if (!error.empty()) return api::fail(api::ErrorCode::kInvalidArgument, "reading JSON", error);
    return result;
}

template <class T>
std::string write_text(const T& value) {
    std::string out;
    Writer(out).write(value);
    return out;
}

api::Result<FlowQuery> read_flow(const json::value& value) {
    const auto invalid = [](std::string what) {
        return api::fail(api::ErrorCode::kInvalidArgument, "reading a flow", std::move(what));
    };
    const auto* flow = value.if_object();
    if (flow == nullptr) return invalid("is not an object");
    const auto* source = flow->if_contains("source");
    const auto* vip = flow->if_contains("vip");
    if (source == nullptr || !source->is_string()) return invalid("source is missing or is not text");
    if (vip == nullptr || !vip->is_string()) return invalid("vip is missing or is not text");
    auto result = parse_flow(source->get_string().c_str(), vip->get_string().c_str());
    const json::value* cid = flow->if_contains("cid");
    if (!result || cid == nullptr) return result;
    if (!cid->is_string()) return invalid("cid is not text");
    auto bytes = parse_cid({cid->get_string().data(), cid->get_string().size()});
    if (!bytes) return tl::unexpected(bytes.error());
    result->cid = std::move(*bytes);
    return result;
}

/// "ip:port" or "[ip]:port" cut in two; empty when it is neither.
std::pair<std::string_view, std::string_view> split_endpoint(std::string_view text) {
    const std::size_t colon = text.rfind(':');
    if (colon == std::string_view::npos) return {};
    std::string_view address = text.substr(0, colon);
    const bool bracketed = address.size() > 2 && address.front() == '[' && address.back() == ']';
    if (bracketed) address = address.substr(1, address.size() - 2);
    const bool is_v6 = address.find(':') != std::string_view::npos;
    if (is_v6 != bracketed) return {};
    return {address, text.substr(colon + 1)};
}

}  // namespace

api::Result<FlowQuery> parse_flow(std::string_view source, std::string_view vip) {
    const auto [address_text, port_text] = split_endpoint(source);
    auto address = api::IpAddress::parse(address_text);
    std::uint16_t port = 0;
    const auto [end, error] = std::from_chars(port_text.data(), port_text.data() + port_text.size(), port);
    const bool port_ok =
        error == std::errc{} && end == port_text.data() + port_text.size() && !port_text.empty();
    if (!address || !port_ok) {
        return api::fail(api::ErrorCode::kInvalidArgument, "reading a flow",
                         fmt::format("source '{}' is not ADDRESS:PORT", source));
    }
    auto parsed_vip = api::Vip::parse(vip);
    if (!parsed_vip) return tl::unexpected(parsed_vip.error());
    return FlowQuery{*address, api::Port{port}, *parsed_vip, {}};
}

api::Result<std::string> parse_cid(std::string_view text) {
    auto bytes = api::bytes_from_hex(text);
    if (bytes && bytes->size() <= api::kMaxQuicCid) return bytes;
    return api::fail(api::ErrorCode::kInvalidArgument, "reading a flow",
                     fmt::format("connection id '{}' is not 1 to {} bytes in hex", text, api::kMaxQuicCid));
}

api::Result<std::vector<FlowQuery>> parse_trace(std::string_view text) {
    auto document = parse(text);
    if (!document) return tl::unexpected(document.error());
    const auto* object = document->if_object();
    const json::value* list = object == nullptr ? nullptr : object->if_contains("flows");
    const json::array* flows = list == nullptr ? nullptr : list->if_array();
    if (flows == nullptr) {
        return api::fail(api::ErrorCode::kInvalidArgument, "reading flows",
                         "'flows' is missing or is not a list");
    }
    if (flows->size() > kMaxTraceFlows) {
        return api::fail(api::ErrorCode::kLimit, "reading flows",
                         fmt::format("{} flows, at most {} in one request", flows->size(), kMaxTraceFlows));
    }
    std::vector<FlowQuery> result;
    result.reserve(flows->size());
    for (const json::value& value : *flows) {
        auto flow = read_flow(value);
        if (!flow) {
            return api::fail(flow.error().code, fmt::format("reading flows[{}]", result.size()),
                             flow.error().what);
        }
        result.push_back(*flow);
    }
    return result;
}

std::string trace_to_json(std::span<const FlowQuery> flows) {
    std::string out = R"({"flows":[)";
    const char* separator = "";
    for (const FlowQuery& flow : flows) {
        const std::string address = flow.source.to_string();
        out += fmt::format(fmt::runtime(flow.source.is_v6() ? R"({}{{"source":"[{}]:{}","vip":"{}")"
                                                            : R"({}{{"source":"{}:{}","vip":"{}")"),
                           separator, address, flow.source_port.value(), flow.vip.to_string());
        if (!flow.cid.empty()) out += fmt::format(R"(,"cid":"{}")", api::hex_of(flow.cid));
        out += '}';
        separator = ",";
    }
    return out + "]}";
}

template <class T>
std::string to_json(const T& value) {
    return write_text(value);
}

template <>
std::string to_json(const ApiError& value) {
    return write_text(ErrorText{std::string(code_name(value.code)), value.doing, value.what, value.rail,
                                value.override_by, value.details});
}

template <class T>
api::Result<T> from_json(std::string_view text) {
    return read_text<T>(text);
}

template <>
api::Result<ApiError> from_json(std::string_view text) {
    auto read = read_text<ErrorText>(text);
    if (!read) return tl::unexpected(read.error());
    ApiError error(code_from_name(read->code).value_or(api::ErrorCode::kSystem), read->doing, read->what);
    error.rail = read->rail;
    error.override_by = read->override_by;
    error.details = read->details;
    return error;
}

#define DETOUR_JSON(Type)                            \
    template std::string to_json<Type>(const Type&); \
    template api::Result<Type> from_json<Type>(std::string_view)

DETOUR_JSON(Version);
DETOUR_JSON(Drain);
DETOUR_JSON(SiteStatus);
DETOUR_JSON(PoolStatus);
DETOUR_JSON(BackendStatus);
DETOUR_JSON(Status);
DETOUR_JSON(Event);
DETOUR_JSON(EventPage);
DETOUR_JSON(DrainRequest);
DETOUR_JSON(DrainReply);
DETOUR_JSON(UndrainRequest);
DETOUR_JSON(UndrainReply);
DETOUR_JSON(Incident);
DETOUR_JSON(std::vector<IncidentSummary>);
DETOUR_JSON(HoldRequest);
DETOUR_JSON(ReleaseRequest);
DETOUR_JSON(WeightRequest);
DETOUR_JSON(IntentReply);
DETOUR_JSON(ReloadRequest);
DETOUR_JSON(ConfigDiffRequest);
DETOUR_JSON(ConfigDiff);
DETOUR_JSON(ReloadReply);
DETOUR_JSON(ConfigInfo);
DETOUR_JSON(PacketTraceRequest);
DETOUR_JSON(PacketTrace);
DETOUR_JSON(CaptureRequest);
DETOUR_JSON(CaptureReadRequest);
DETOUR_JSON(CapturedPacket);
DETOUR_JSON(CapturePage);
DETOUR_JSON(PlanFailReply);
DETOUR_JSON(std::vector<SiteStatus>);
DETOUR_JSON(std::vector<PoolStatus>);
DETOUR_JSON(std::vector<BackendStatus>);
DETOUR_JSON(std::vector<FlowPlacement>);

#undef DETOUR_JSON

}  // namespace detour::control
