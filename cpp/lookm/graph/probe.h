#pragma once

#include "lookm/graph/graph_runner.h"

#include <cstdint>

namespace lookm {

// The kind of cache that a layer has; llama.cpp transposes V without flash attention.
struct probe_layer {
    ggml_type type_k = GGML_TYPE_F16;
    ggml_type type_v = GGML_TYPE_F16;
    int64_t head_dim = 128;
    bool flash_attn = true;
};

// Runs every graph that compression would run on a device, for a small layer of zeros on the CPU:
// the scores, and each way of merging. gate sees every node as the device's backend would. Throws
// refused_op if it refuses a node that no other form of the graph can avoid.
void probe_device_graphs(const probe_layer & layer, const op_gate & gate);

} // namespace lookm
