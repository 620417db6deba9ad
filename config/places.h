// Where each value that a cross reference may blame was said. Filled by load(), read by validate(); the
// vectors run parallel to those of the Config.
#pragma once

#include <vector>

#include "config/model.h"

namespace detour::config {

struct SitePlaces {
    Origin name;
    Origin key;
    std::vector<Origin> bfd;  ///< addresses
};

struct BackendPlaces {
    Origin site;
    Origin address;
    Origin server_ids;              ///< the header when there is none
    bool server_ids_wrong = false;  ///< one of them was refused: "without server_id" would be a false alarm
};

struct PoolPlaces {
    Origin name;
    Origin hash;
    Origin stranded;
    Origin min_sites;
    std::vector<Origin> vips;
    std::vector<Origin> depends_on;
    std::vector<Origin> site_weights;
    std::vector<BackendPlaces> backends;
};

struct Places {
    std::vector<SitePlaces> sites;
    std::vector<PoolPlaces> pools;
    /// False when a name, or a list that was refused, could not be read: then "no such site" would be a false
    /// alarm.
    bool all_sites_read = true;
    bool all_pools_read = true;
    bool all_backends_read = true;
    bool source_read = true;
};

}  // namespace detour::config
