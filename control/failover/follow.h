// `follow = true`: a pool goes where what it depends on is served.
//
// A login that left a site is no help to the pool that stayed there. At each site the pool takes at most the
// part of its share that the pools it depends on take there, so they leave, ramp and return together. A site
// where what it depends on has no backends at all does not count: there it was served from elsewhere before.
// When no site is left by this rule, the rule is dropped: half a service is better than none, and the alarm
// says so. Pure, any thread.
#pragma once

#include <optional>
#include <span>
#include <vector>

namespace detour::failover {

struct FollowPart {
    double admit = 1;  ///< of the pool itself at the site, by all other rules
    std::optional<double>
        needs;  ///< the lowest admit of what it depends on there; absent: nothing of it is there
};

struct Follow {
    std::vector<double> admit;  ///< by part: the most that it takes
    bool dropped = false;       ///< no site would be left: it follows nobody
};

[[nodiscard]] Follow follow(std::span<const FollowPart> parts);

}  // namespace detour::failover
