// Reads [[pool]] and all that is under it: probes, backends, weights.
#pragma once

#include "config/model.h"
#include "config/places.h"
#include "config/section.h"

namespace detour::config {

/// Adds the section's pool to `config` and its places to `places`; its mistakes go to the section's Reading.
void read_pool(Section section, Config& config, Places& places);

}  // namespace detour::config
