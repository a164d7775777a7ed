#pragma once

#include "ggml.h"

#include <cstddef>
#include <string>
#include <vector>

namespace lookm {

// A device that can hold a cache, and what becomes of its compression there.
struct device_info {
    std::string name, description;
    std::string type; // "CPU", "GPU", "IGPU", "RPC"
    size_t memory_free = 0, memory_total = 0;
    bool on_device = false; // scores and merges run where the cache lies
    std::string note;       // why not, or how far that was asked
};

// Every device of this machine and of the servers, each asked about the nodes of the very graphs
// that compression runs on it, for caches of these types with flash attention on and off. Starts
// llama.cpp's backends.
std::vector<device_info> list_devices(const std::string & rpc_servers, ggml_type type_k,
                                      ggml_type type_v);

} // namespace lookm
