#pragma once

#include "lookm/graph/kv_rows.h"

#include <cstdint>
#include <span>
#include <vector>

namespace lookm {

// Result of matching a whole layer (spec 1.6).
struct matches {
    std::vector<int32_t> pivot; // [n_head_kv, n_evict] index into kept
    std::vector<float> weight;  // [n_head_kv, n_evict] cosine to the pivot, empty unless asked for
};

// The most similar kept row of every evicted row, head by head, by the cosine of their keys; ties go to the lower
// index. A row of zero norm has cosine 0 to every other.
//
//   kept [n_head_kv, n_keep], evicted [n_head_kv, n_evict]   cells of the storage; n_keep > 0
//
// Needs runner.on_cpu() and k in host memory; match_graph is the form for devices.
matches match_on_host(graph_runner & runner, const kv_rows & k, std::span<const int32_t> kept,
                      std::span<const int32_t> evicted, bool with_weight);

} // namespace lookm
