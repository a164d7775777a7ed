#pragma once

#include "lookm/graph/graph_runner.h"

namespace lookm {

// Matching as graph nodes, for devices (match_host is the form for CPUs).

// Nodes of one tile of evicted rows against all kept rows of some heads (spec 1.6), keys only.
struct match_nodes {
    ggml_tensor * pivot;  // [n_evict, n_h] i32, index into kept; ties as the backend's argmax breaks them
    ggml_tensor * weight; // [1, n_evict, n_h] f32 cosine to the pivot, or nullptr unless asked for
};

// unit_kept [head_dim, n_keep, n_h] f32, l2-normalised; evicted [head_dim, n_evict, n_h] f32.
// A row of zero norm has cosine 0 to every other.
match_nodes match(ggml_context * ctx, ggml_tensor * unit_kept, ggml_tensor * evicted, bool with_weight);

// l2_norm with a guard for zero rows, the one place that decides it.
ggml_tensor * unit_rows(ggml_context * ctx, ggml_tensor * rows);

} // namespace lookm
