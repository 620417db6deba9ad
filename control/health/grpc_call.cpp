#include "control/health/grpc_call.h"

#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

namespace detour::health {

namespace {

constexpr std::size_t kPrefixBytes = 5;  ///< compressed or not, length
constexpr std::size_t kMaxBodyBytes = 4'096;
constexpr std::size_t kMaxInputBytes = 65'536;
constexpr int kServing = 1;

nghttp2_nv header(std::string_view name, std::string_view value) {
    // nghttp2 copies both and changes neither.
    const auto bytes = [](std::string_view text) {
        return const_cast<std::uint8_t*>(reinterpret_cast<const std::uint8_t*>(text.data()));
    };
    return {bytes(name), bytes(value), name.size(), value.size(), NGHTTP2_NV_FLAG_NONE};
}

/// A base-128 number of protobuf; nothing when it is cut off or longer than 10 bytes.
std::optional<std::uint64_t> take_varint(std::string_view& bytes) {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 70 && !bytes.empty(); shift += 7) {
        const auto byte = static_cast<unsigned char>(bytes.front());
        bytes.remove_prefix(1);
        if (shift < 64) value |= static_cast<std::uint64_t>(byte & 0x7fU) << shift;
        if ((byte & 0x80U) == 0) return value;
    }
    return std::nullopt;
}

/// Passes over a field of another number. False when it is cut off, or a group, which nobody writes.
bool skip_field(std::string_view& bytes, std::uint64_t wire_type) {
    std::optional<std::uint64_t> size;
    if (wire_type == 0) return take_varint(bytes).has_value();
    if (wire_type == 1) size = 8;
    if (wire_type == 2) size = take_varint(bytes);
    if (wire_type == 5) size = 4;
    if (!size || *size > bytes.size()) return false;
    bytes.remove_prefix(static_cast<std::size_t>(*size));
    return true;
}

/// The whole text as a number up to 65,535.
std::optional<std::uint16_t> number(std::string_view text) {
    std::uint16_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return value;
}

}  // namespace

std::string grpc_health_request(std::string_view service) {
    std::string message;
    if (!service.empty()) {
        message += '\x0a';  // field 1, a string
        std::size_t size = service.size();
        for (; size > 0x7f; size >>= 7U) message += static_cast<char>((size & 0x7fU) | 0x80U);
        message += static_cast<char>(size);
        message += service;
    }
    std::string request(1, '\0');
    for (int shift = 24; shift >= 0; shift -= 8)
        request += static_cast<char>(message.size() >> static_cast<unsigned>(shift) & 0xffU);
    return request + message;
}

int read_grpc_health(std::string_view body) {
    if (body.size() < kPrefixBytes || body.front() != '\0') return -1;
    std::size_t size = 0;
    for (std::size_t i = 1; i < kPrefixBytes; ++i) size = size << 8U | static_cast<unsigned char>(body[i]);
    body.remove_prefix(kPrefixBytes);
    if (size != body.size()) return -1;
    int status = 0;  // protobuf leaves a 0 out
    while (!body.empty()) {
        const auto tag = take_varint(body);
        if (!tag) return -1;
        if (*tag != (1U << 3U | 0U)) {
            if (!skip_field(body, *tag & 7U)) return -1;
            continue;
        }
        const auto value = take_varint(body);
        if (!value) return -1;
        status = static_cast<int>(std::min<std::uint64_t>(*value, 0xffff));
    }
    return status;
}

struct GrpcCall::Session {
    nghttp2_session* session = nullptr;
    std::string request;
    std::size_t given = 0;  ///< of the request
    std::string body;
    std::size_t taken = 0;  ///< bytes of input
    std::optional<std::uint16_t> status;
    std::optional<std::uint16_t> grpc_status;
    std::int32_t stream = 0;
    bool failed = false;  ///< not what may come, or the stream was refused
    bool closed = false;
    bool ended = false;

    Session() = default;
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;
    ~Session() { nghttp2_session_del(session); }

    static Session& of(void* user) { return *static_cast<Session*>(user); }
    static std::string_view text(const std::uint8_t* bytes, std::size_t size) {
        return {reinterpret_cast<const char*>(bytes), size};
    }

    static int on_header(nghttp2_session*, const nghttp2_frame*, const std::uint8_t* name,
                         std::size_t name_size, const std::uint8_t* value, std::size_t value_size,
                         std::uint8_t, void* user) {
        Session& self = of(user);
        if (text(name, name_size) == ":status") self.status = number(text(value, value_size));
        if (text(name, name_size) == "grpc-status") {
            self.grpc_status = number(text(value, value_size));
            self.failed |= !self.grpc_status;
        }
        return 0;
    }
    static int on_data(nghttp2_session*, std::uint8_t, std::int32_t, const std::uint8_t* data,
                       std::size_t size, void* user) {
        Session& self = of(user);
        self.failed |= self.body.size() + size > kMaxBodyBytes;
        if (!self.failed) self.body += text(data, size);
        return 0;
    }
    static int on_close(nghttp2_session*, std::int32_t stream, std::uint32_t error, void* user) {
        Session& self = of(user);
        if (stream != self.stream) return 0;
        self.closed = true;
        self.failed |= error != NGHTTP2_NO_ERROR;
        return 0;
    }
    static ssize_t read_request(nghttp2_session*, std::int32_t, std::uint8_t* out, std::size_t room,
                                std::uint32_t* flags, nghttp2_data_source*, void* user) {
        Session& self = of(user);
        const std::size_t size = std::min(room, self.request.size() - self.given);
        std::copy_n(self.request.data() + self.given, size, out);
        self.given += size;
        if (self.given == self.request.size()) *flags |= NGHTTP2_DATA_FLAG_EOF;
        return static_cast<ssize_t>(size);
    }

    bool open();
    bool submit(const GrpcTarget& target);
};

bool GrpcCall::Session::open() {
    nghttp2_session_callbacks* callbacks = nullptr;
    if (nghttp2_session_callbacks_new(&callbacks) != 0) return false;
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    const int made = nghttp2_session_client_new(&session, callbacks, this);
    nghttp2_session_callbacks_del(callbacks);
    return made == 0;
}

bool GrpcCall::Session::submit(const GrpcTarget& target) {
    constexpr std::array<nghttp2_settings_entry, 2> kSettings{
        {{NGHTTP2_SETTINGS_ENABLE_PUSH, 0}, {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, 16'384}}};
    if (nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, kSettings.data(), kSettings.size()) != 0)
        return false;
    request = grpc_health_request(target.service);
    const std::array<nghttp2_nv, 7> headers{header(":method", "POST"),
                                            header(":scheme", target.tls ? "https" : "http"),
                                            header(":path", "/grpc.health.v1.Health/Check"),
                                            header(":authority", target.authority),
                                            header("content-type", "application/grpc"),
                                            header("te", "trailers"),
                                            header("user-agent", "detour")};
    nghttp2_data_provider provider{};
    provider.read_callback = read_request;
    stream = nghttp2_submit_request(session, nullptr, headers.data(), headers.size(), &provider, nullptr);
    return stream > 0;
}

GrpcCall::GrpcCall(const GrpcTarget& target) : session_(std::make_unique<Session>()) {
    // Only for want of memory.
    session_->ended = !session_->open() || !session_->submit(target);
}

GrpcCall::~GrpcCall() = default;

std::string GrpcCall::output() {
    std::string out;
    const std::uint8_t* bytes = nullptr;
    ssize_t size = 0;
    while (!session_->ended && (size = nghttp2_session_mem_send(session_->session, &bytes)) > 0)
        out += Session::text(bytes, static_cast<std::size_t>(size));
    session_->failed |= size < 0;
    return out;
}

void GrpcCall::input(std::string_view bytes) {
    Session& self = *session_;
    if (done()) return;
    self.taken += bytes.size();
    const ssize_t read = nghttp2_session_mem_recv(
        self.session, reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
    self.failed |= read < 0 || self.taken > kMaxInputBytes;
}

void GrpcCall::end() {
    session_->ended = true;
}

bool GrpcCall::done() const {
    return session_->closed || session_->failed || session_->ended;
}

Outcome GrpcCall::outcome() const {
    const Session& self = *session_;
    if (!self.closed && self.ended && !self.failed)
        return {self.taken == 0 ? Cause::kReset : Cause::kBadResponse, 0, {}};
    if (self.status && *self.status != 200) return {Cause::kBadStatus, *self.status, {}};
    if (self.grpc_status && *self.grpc_status != 0) return {Cause::kBadGrpcStatus, *self.grpc_status, {}};
    if (self.failed || !self.status || !self.grpc_status) return {Cause::kBadResponse, 0, {}};
    const int health = read_grpc_health(self.body);
    if (health < 0) return {Cause::kBadResponse, 0, {}};
    return {health == kServing ? Cause::kOk : Cause::kNotServing, static_cast<std::uint16_t>(health), {}};
}

}  // namespace detour::health
