#pragma once

#include "lookm/core/method.h"
#include "lookm/graph/kv_rows.h"
#include "lookm/graph/match_host.h"

#include <cstdint>
#include <span>

namespace lookm {

// Which rows of one layer stay, which go, and where the kept ones are written. Cells are indices
// into the layer's storage.
struct layer_plan {
    std::span<const int32_t> kept;    // [n_head_kv, n_keep]
    std::span<const int32_t> evicted; // [n_head_kv, n_evict]
    std::span<const int32_t> target;  // [n_keep]: row r of every head is written to cell target[r]
    // of each cell of the storage; needed for method.merge_within_modality only
    std::span<const token_kind> kind = {};
};

// Merges each head's evicted rows into their pivots and writes the kept rows to plan.target, for K
// and V; with method.merge_keys off, K rows are only moved. Sums are f32, rows are written in the
// cache's own type. All other cells keep their data.
//
// on_device: matching is one ggml graph on the runner's backend, and merging another one, by
// one-hot matrix products. Otherwise both are loops on the CPU (cpu_products, a scatter-add), which
// take far less arithmetic but need runner.on_cpu() and the storage in host memory.
//
// Returns the matches that were merged: pivot [n_head_kv, n_evict] (index into kept; -1: the row
// was dropped). Empty if the method merges nothing. Throws refused_op (on_device) before anything
// is written, and std::runtime_error if memory runs out or a graph fails.
matches compress_layer(graph_runner & runner, const kv_layer & layer, const method & m,
                       const layer_plan & plan, bool on_device);

// All merges have the form row' = (a * row + b * sum) / (1 + n), where sum adds the n rows that are
// merged into the row.
struct merge_weights {
    float per_count; // a = 1 + per_count * n
    float b;
    bool by_cosine; // each row in the sum is multiplied by its cosine similarity to the pivot
};
merge_weights weights_of(merge rule);

} // namespace lookm
