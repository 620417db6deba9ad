// Cross references: what one value can't tell alone. Names that must be unique, names that must exist, sums
// that must fit. Pure; adds to `mistakes`, at the place of the value at fault.
#pragma once

#include "config/mistakes.h"
#include "config/places.h"

namespace detour::config {

void validate(const Config& config, const Places& places, Mistakes& mistakes);

}  // namespace detour::config
