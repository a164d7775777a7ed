#pragma once

#include "lookm/core/method.h"
#include "lookm/graph/kv_rows.h"
#include "lookm/graph/match_host.h"

#include <cstdint>
#include <span>

namespace lookm {

// Which rows of one layer stay, go, and where they are put. Cell indices are those of the storage.
struct layer_plan {
    std::span<const int32_t> kept;    // [n_head_kv, n_keep]
    std::span<const int32_t> evicted; // [n_head_kv, n_evict]
    std::span<const int32_t> target;  // [n_keep]: row r of every head is written to cell target[r]
    // of each cell of the storage; read only where rows merge within their modality
    std::span<const token_kind> kind = {};
};

// Merges each head's evicted rows into their pivots and packs the kept rows into plan.target, K and
// V alike, or K without merging (method.merge_keys). Sums in f32, rows written in the cache's own
// type. Other cells keep their data.
//
// on_device: matching is one ggml graph on the runner's backend and merging, by one-hot products,
// another. Otherwise keys are matched and rows are summed by loops of our own (cpu_products, a
// scatter-add), which needs runner.on_cpu(), the storage in host memory, and far less arithmetic.
//
// Returns what was merged: pivot [n_head_kv, n_evict] (index into kept, -1: the row is dropped),
// empty when the method merges nothing.
matches compress_layer(graph_runner & runner, const kv_layer & layer, const method & how,
                       const layer_plan & plan, bool on_device);

// The one formula of the merges: row' = (a * row + b * sum) / (1 + n), sum over the n rows merged
// into it.
struct merge_weights {
    float per_count; // a = 1 + per_count * n
    float b;
    bool by_cosine; // each merged row times its cosine
};
merge_weights weights_of(merge how);

} // namespace lookm
