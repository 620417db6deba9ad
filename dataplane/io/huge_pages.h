// 2 MiB huge pages: raised at start when too few are free, put back at the end.
//
// The count is the machine's, so it is only ever raised, by what is missing, and lowered again by what was
// added. What was added is kept in the state folder with the boot's id, so that a process that was killed is
// paid off by the next one. Main thread only.
#pragma once

#include <cstddef>
#include <string>

namespace detour::io {

class HugePages {
  public:
    /// Nothing is touched yet. `folder` keeps the note of what was added.
    explicit HugePages(std::string folder);
    /// Gives back what was added.
    ~HugePages();
    HugePages(const HugePages&) = delete;
    HugePages& operator=(const HugePages&) = delete;

    /// True when `bytes` can be had in free huge pages, after raising the count if need be. False leaves the
    /// count as it was.
    [[nodiscard]] bool provide(std::size_t bytes);

  private:
    void note() const;

    std::string path_;
    long added_ = 0;  // pages
};

}  // namespace detour::io
