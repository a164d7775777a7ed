#include "lookm/host/out_of_memory.h"

#include <algorithm>

namespace lookm {

bool speaks_of_memory(std::string_view error) {
    static constexpr std::string_view words[] = {
        "bad_alloc",          "insufficient memory",      "failed to allocate",
        "unable to allocate", "cannot allocate",          "Cannot allocate",
        "out of memory",      "failed to reserve memory", "mem_buffer != NULL",
        "buffer != NULL",     "Failed to allocate",       "Resource temporarily unavailable",
    };
    return std::any_of(std::begin(words), std::end(words), [&](std::string_view word) {
        return error.find(word) != std::string_view::npos;
    });
}

} // namespace lookm
