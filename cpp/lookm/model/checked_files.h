#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lookm {

// A model file, its other parts if it is split, and its projector, as they are on disk now.
struct model_files {
    std::string model;
    std::string projector; // "": none

    std::vector<std::string> all() const; // paths
    // A hash of the paths, sizes, times and first 64 KiB of all files and of the library's version.
    // What was found out about the files holds as long as the stamp is the same.
    uint64_t stamp() const;
};

// Remembers in the user's cache folder which files were found to be good, so that each is tried
// only once (file_check.h). If the folder cannot be written, files are tried again.
class checked_files {
  public:
    static bool holds(const model_files & files);
    static void add(const model_files & files);
};

} // namespace lookm
