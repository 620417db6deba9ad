// Incidents on disk: one JSON document a file, `incident-000012.json`, each replaced as a whole.
//
// Thread: the loop; files are written and removed on a thread of its own, so that a slow disk stands in
// nobody's way. What was read is the state of the last write: a crash loses at most the newest lines of an
// incident.
#pragma once

#include <boost/asio/thread_pool.hpp>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "control/app/durable_writer.h"
#include "control/app/incident_book.h"

namespace detour::app {

class IncidentFiles {
  public:
    using Report = std::function<void(const api::Error&)>;
    /// `report` is told what could not be read or written, on the loop. `io` must outlive it.
    IncidentFiles(boost::asio::io_context& io, std::string folder, DurableWriter::Write write, Report report);

    /// Makes the folder and reads what is there. A damaged file is reported, set aside, and its number stays
    /// used.
    [[nodiscard]] std::vector<control::Incident> read();
    /// Writes what has changed in `book` and removes what it has forgotten.
    void save(IncidentBook& book);
    /// Waits for what is being written, and writes what still waits. Blocks; nothing may follow.
    void stop(const IncidentBook& book);

  private:
    [[nodiscard]] std::string path_of(std::uint64_t number) const;

    boost::asio::io_context& io_;
    std::string folder_;
    DurableWriter::Write write_;
    Report report_;
    boost::asio::thread_pool pool_{1};
    std::map<std::uint64_t, std::unique_ptr<DurableWriter>> writers_;
};

}  // namespace detour::app
