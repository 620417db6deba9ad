#include "tools/decap/attachment.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "decap.skel.h"
#include "tools/decap/decap_maps.h"
#include "tools/decap/kernel.h"

namespace detour::decap {

namespace {

struct CloseObject {
    void operator()(decap_bpf* object) const noexcept { decap_bpf::destroy(object); }
};
using Object = std::unique_ptr<decap_bpf, CloseObject>;

constexpr std::uint8_t kPresent = 1;
constexpr std::array kPlaces{Place::kEgress, Place::kXdp, Place::kIngress};

[[nodiscard]] decap_address key_of(const api::IpAddress& address) {
    decap_address key{};
    key.family = address.is_v6() ? DECAP_FAMILY_V6 : DECAP_FAMILY_V4;
    std::memcpy(key.bytes, address.bytes().data(), sizeof(key.bytes));
    return key;
}

[[nodiscard]] tl::unexpected<api::Error> map_error(const char* doing, int error) {
    const auto code = error == E2BIG || error == ENOSPC ? api::ErrorCode::kLimit : api::ErrorCode::kSystem;
    const std::string what = code == api::ErrorCode::kLimit
                                 ? "more than " + std::to_string(DECAP_MAX_ADDRESSES) + " entries"
                                 : std::string(std::strerror(error));
    return api::fail(code, doing, what);
}

[[nodiscard]] Result<void> fill_addresses(bpf_map* map, std::span<const api::IpAddress> addresses) {
    for (const auto& address : addresses) {
        const decap_address key = key_of(address);
        const int error = bpf_map__update_elem(map, &key, sizeof(key), &kPresent, sizeof(kPresent), BPF_ANY);
        if (error != 0) return map_error("storing an address", -error);
    }
    return {};
}

[[nodiscard]] Result<void> fill_sources(bpf_map* map, std::span<const Prefix> sources) {
    for (const auto& source : sources) {
        decap_prefix key{};
        key.prefix_bits = 8U + source.bits;
        key.address = key_of(source.address);
        const int error = bpf_map__update_elem(map, &key, sizeof(key), &kPresent, sizeof(kPresent), BPF_ANY);
        if (error != 0) return map_error("storing a source prefix", -error);
    }
    return {};
}

[[nodiscard]] bpf_program* program_for(const Object& object, Place place) {
    switch (place) {
        case Place::kXdp:
            return object->progs.detour_decap_x;
        case Place::kIngress:
            return object->progs.detour_decap_t;
        case Place::kEgress:
            break;
    }
    return object->progs.detour_clamp;
}

[[nodiscard]] std::vector<Place> places_of(const InterfacePlan& plan, Mode mode) {
    std::vector<Place> places;
    if (plan.clamps) places.push_back(Place::kEgress);
    if (plan.decapsulates) places.push_back(mode == Mode::kXdp ? Place::kXdp : Place::kIngress);
    return places;
}

/// Only the programs for `places`: the verifier takes a tenth of a second for each of the larger ones.
[[nodiscard]] Result<Object> load(const Settings& settings, const std::vector<Place>& places) {
    Object object(decap_bpf::open());
    if (!object) return api::fail(api::ErrorCode::kSystem, "opening the BPF object", std::strerror(errno));
    object->rodata->gue_port = htons(settings.gue_port.value());
    object->rodata->mss_v4 = settings.mss_v4();
    object->rodata->mss_v6 = settings.mss_v6();
    for (const Place place : kPlaces) {
        const bool wanted = std::ranges::find(places, place) != places.end();
        bpf_program__set_autoload(program_for(object, place), wanted);
    }
    if (const int error = decap_bpf::load(object.get()); error != 0) {
        return api::fail(error == -EPERM ? api::ErrorCode::kRefused : api::ErrorCode::kSystem,
                         "loading the BPF programs", std::strerror(-error));
    }
    return object;
}

}  // namespace

struct Attachment::State {
    Object object;
    int ifindex = 0;
    std::string ifname;
    std::vector<std::pair<Place, AttachedProgram>> attached;

    State() = default;
    State(const State&) = delete;
    State& operator=(const State&) = delete;
    // An error here has no one to go to: what can't be detached is replaced by the next start.
    ~State() {
        for (const auto& [place, program] : attached) (void)detach(ifindex, place, program);
    }

    /// Takes a program of ours away from `place`, left there by a run with other options.
    [[nodiscard]] Result<void> clear(Place place) const {
        auto present = decap::attached(ifindex, place);
        if (!present) return tl::unexpected(present.error());
        return *present && is_ours(**present, place) ? detach(ifindex, place, **present) : Result<void>{};
    }

    [[nodiscard]] Result<void> occupy(Place place) {
        auto mine = describe(Descriptor(::dup(bpf_program__fd(program_for(object, place)))));
        if (!mine) return tl::unexpected(mine.error());
        auto present = decap::attached(ifindex, place);
        if (!present) return tl::unexpected(present.error());
        if (*present && !is_ours(**present, place)) {
            return api::fail(api::ErrorCode::kRefused, "attaching to " + ifname,
                             "the program '" + (*present)->name + "' (id " + std::to_string((*present)->id) +
                                 ") is there and is not ours");
        }
        if (auto done = attach(ifindex, place, mine->fd, *present); !done) return done;
        attached.emplace_back(place, std::move(*mine));
        return {};
    }

    [[nodiscard]] Result<void> settle(const std::vector<Place>& wanted) {
        for (const Place place : kPlaces) {
            const bool mine = std::ranges::find(wanted, place) != wanted.end();
            if (auto done = mine ? occupy(place) : clear(place); !done) return done;
        }
        return {};
    }
};

Attachment::Attachment(std::unique_ptr<State> state) noexcept : state_(std::move(state)) {}
Attachment::Attachment(Attachment&& other) noexcept = default;
Attachment& Attachment::operator=(Attachment&& other) noexcept = default;
Attachment::~Attachment() = default;

Result<Attachment> Attachment::open(const InterfacePlan& plan, const Settings& settings,
                                    std::span<const api::IpAddress> locals) {
    auto ifindex = interface_index(plan.name);
    if (!ifindex) return tl::unexpected(ifindex.error());
    const auto places = places_of(plan, settings.mode);
    auto object = load(settings, places);
    if (!object) return tl::unexpected(object.error());
    auto state = std::make_unique<State>();
    state->object = std::move(*object);
    state->ifindex = *ifindex;
    state->ifname = plan.name;
    const auto& maps = state->object->maps;
    auto done = fill_addresses(maps.decap_vips, settings.vips)
                    .and_then([&] { return fill_sources(maps.decap_sources, settings.sources); })
                    .and_then([&] { return fill_addresses(maps.decap_locals, locals); })
                    .and_then([&] { return state->settle(places); });
    if (!done) return tl::unexpected(done.error());
    return Attachment(std::move(state));
}

Result<void> Attachment::set_locals(std::span<const api::IpAddress> locals) {
    bpf_map* map = state_->object->maps.decap_locals;
    if (auto done = fill_addresses(map, locals); !done) return done;
    std::vector<decap_address> gone;
    decap_address key{};
    const decap_address* previous = nullptr;
    while (bpf_map__get_next_key(map, previous, &key, sizeof(key)) == 0) {
        const bool kept = std::ranges::any_of(locals, [&key](const auto& address) {
            const decap_address candidate = key_of(address);
            return std::memcmp(&candidate, &key, sizeof(key)) == 0;
        });
        if (!kept) gone.push_back(key);
        previous = &key;
    }
    for (const auto& entry : gone) (void)bpf_map__delete_elem(map, &entry, sizeof(entry), 0);
    return {};
}

}  // namespace detour::decap
