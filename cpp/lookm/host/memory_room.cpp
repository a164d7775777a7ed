#include "lookm/host/memory_room.h"

#include "lookm/host/out_of_memory.h"

#include "ggml.h"

#include <cstdio>
#include <fstream>
#include <sstream>
#include <vector>

#if !defined(_WIN32)
#include <sys/resource.h>
#include <unistd.h>
#endif

namespace lookm {

namespace {

constexpr uint64_t to_spare = 64 << 20;
// Limits from here on mean "none": cgroups of version 1 say the largest number of pages below 2^63
constexpr uint64_t no_limit = uint64_t(1) << 60;

std::string in_mib(uint64_t bytes) {
    return std::to_string(bytes >> 20) + " MiB";
}

std::optional<uint64_t> number_in(const std::string & path) {
    std::ifstream file(path);
    uint64_t number = 0;
    return file >> number ? std::optional(number) : std::nullopt; // "max" is no number: no limit
}

// The number in the line that starts with the key, "key 123" or "Key:  123 kB"; 0 if there is none.
uint64_t number_after(const std::string & path, const std::string & key) {
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) {
        if (line.rfind(key, 0) == 0) {
            return std::strtoull(line.c_str() + key.size(), nullptr, 10);
        }
    }
    return 0;
}

uint64_t left_of(uint64_t limit, uint64_t used) {
    return limit > used ? limit - used : 0;
}

#if !defined(_WIN32)
// Number of pages of this process: all that are mapped, or its own data.
uint64_t pages(int field) {
    std::ifstream file("/proc/self/statm");
    uint64_t n = 0;
    for (int i = 0; i <= field; ++i) {
        file >> n;
    }
    return file ? n : 0;
}
constexpr int all_pages = 0, data_pages = 5;

memory_room by_ulimit(decltype(RLIMIT_AS) resource, const char * flag, int used) {
    rlimit limit = {};
    if (getrlimit(resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) {
        return {};
    }
    const uint64_t bytes = pages(used) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
    return {left_of(limit.rlim_cur, bytes),
            "ulimit " + std::string(flag) + ", " + in_mib(limit.rlim_cur)};
}
#endif

struct cgroup_files {
    const char * limit;
    const char * used;
    const char * cached; // key in memory.stat: cached pages of files, which can be freed
};
constexpr cgroup_files version_1 = {"/memory.limit_in_bytes", "/memory.usage_in_bytes",
                                    "total_cache "};
constexpr cgroup_files version_2 = {"/memory.max", "/memory.current", "file "};

memory_room of_cgroup(const std::string & folder, const cgroup_files & files) {
    const std::optional<uint64_t> limit = number_in(folder + files.limit);
    const std::optional<uint64_t> used = number_in(folder + files.used);
    if (!limit || !used || *limit >= no_limit) {
        return {};
    }
    const uint64_t cached = number_after(folder + "/memory.stat", files.cached);
    return {left_of(*limit, left_of(*used, cached)), "this cgroup's limit, " + in_mib(*limit)};
}

// The limits of all parent groups apply as well. A container sees its own group as the root.
memory_room by_cgroups(const std::string & root) {
    memory_room least;
    std::ifstream own(root + "/proc/self/cgroup");
    for (std::string line; std::getline(own, line);) {
        const size_t first = line.find(':');
        const size_t second = line.find(':', first + 1);
        if (first == std::string::npos || second == std::string::npos) {
            continue;
        }
        const std::string controllers = line.substr(first + 1, second - first - 1);
        const bool is_2 = controllers.empty();
        if (!is_2 && controllers.find("memory") == std::string::npos) {
            continue;
        }
        const std::string top = root + (is_2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory");
        const cgroup_files & files = is_2 ? version_2 : version_1;
        std::string path = line.substr(second + 1);
        for (;; path.erase(path.rfind('/'))) {
            least.take_less(of_cgroup(top + (path == "/" ? "" : path), files));
            if (path.find('/') == std::string::npos) {
                break;
            }
        }
    }
    return least;
}

memory_room of_machine(const std::string & root) {
    const std::string path = root + "/proc/meminfo";
    const uint64_t available = number_after(path, "MemAvailable:");
    if (available == 0) {
        return {};
    }
    return {(available + number_after(path, "SwapFree:")) << 10, "this machine's memory"};
}

void check(const std::string & what, const char * kind, uint64_t bytes, uint64_t spare,
           const memory_room & room) {
    if (room.bytes >= bytes + spare) {
        return;
    }
    std::string text = what;
    text += bytes > 0 ? " takes " + in_mib(bytes) + kind : "";
    text += bytes > 0 && spare > 0 ? " and" : "";
    text += spare > 0 ? " needs " + in_mib(spare) + " to spare" : "";
    throw out_of_memory(text + "; " + in_mib(room.bytes) + " are left of " + room.limit);
}

} // namespace

memory_room address_room() {
#if defined(_WIN32)
    return {};
#else
    return by_ulimit(RLIMIT_AS, "-v", all_pages);
#endif
}

memory_room data_room() {
#if defined(_WIN32)
    return {};
#else
    return by_ulimit(RLIMIT_DATA, "-d", data_pages);
#endif
}

memory_room unused_memory(const std::string & root) {
    memory_room least = by_cgroups(root);
    least.take_less(of_machine(root));
    return least;
}

uint64_t addresses_in_use() {
#if defined(_WIN32)
    return 0;
#else
    return pages(all_pages) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
#endif
}

uint64_t graph_tables(uint64_t n_nodes) {
    // of each node's inputs, as ggml reserves for the case that each node runs on another device
    constexpr uint64_t n_copies = 60;
    return n_nodes * (n_copies + 4) * sizeof(ggml_tensor);
}

void check_room(const std::string & what, const memory_need & need) {
    check(what, " of address space", need.taken + need.mapped + need.reserved, to_spare,
          address_room());
    check(what, " of address space", need.taken + need.reserved, to_spare, data_room());
    if (need.taken > 0) {
        check(what, "", need.taken, 0, unused_memory());
    }
}

bool has_room(uint64_t bytes) {
    try {
        check_room("a copy", {bytes, 0, 0});
    } catch (const out_of_memory &) {
        return false;
    }
    return true;
}

} // namespace lookm
