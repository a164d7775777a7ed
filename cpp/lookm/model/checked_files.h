#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lookm {

// A model file, its other parts where it is split, and its projector, as they are now.
struct model_files {
    std::string model;
    std::string projector; // "": none

    std::vector<std::string> all() const; // paths
    // Paths, sizes, times and first bytes, in a number: what was found about the files holds while
    // it is the same.
    uint64_t stamp() const;
};

// Which files were found good, in the user's cache folder; so a file is tried once (file_check).
// Where nothing can be written it is tried again.
class checked_files {
  public:
    static bool holds(const model_files & files);
    static void add(const model_files & files);
};

} // namespace lookm
