// The rules of hash = "quic-cid": each backend has server ids that nobody else in its pool has, and all of
// one configuration have one length. Pure.
#pragma once

#include "config/mistakes.h"
#include "config/model.h"
#include "config/places.h"

namespace detour::config {

/// Adds what is wrong to `mistakes`. `places` is the pool's own.
void check_server_ids(const Pool& pool, const PoolPlaces& places, Mistakes& mistakes);

}  // namespace detour::config
