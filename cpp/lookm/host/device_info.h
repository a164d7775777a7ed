#pragma once

#include "ggml.h"

#include <cstddef>
#include <string>
#include <vector>

namespace lookm {

// A device that can hold a KV cache, and whether compression can run on it.
struct device_info {
    std::string name, description;
    std::string type;                         // "CPU", "GPU", "IGPU", "RPC"
    size_t memory_free = 0, memory_total = 0; // bytes
    bool on_device = false; // scoring and merging run on the device itself, not on the CPU
    std::string note;       // why not, or how sure that is; may be empty
};

// Describes every device of this machine and of the RPC servers ("host:port,..."). Each is asked
// whether it supports all nodes of the graphs that compression would run on it, for caches of these
// types with flash attention on and off. Starts llama.cpp's backends. Throws bad_argument
// "rpc_servers" as device_list does.
std::vector<device_info> list_devices(const std::string & rpc_servers, ggml_type type_k,
                                      ggml_type type_v);

} // namespace lookm
