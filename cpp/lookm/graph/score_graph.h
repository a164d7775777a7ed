#pragma once

#include "lookm/graph/graph_runner.h"

#include <cstdint>

namespace lookm {

// The inputs of a flash-attention node, shapes in ggml order. Leaves (as_leaf) or views that have
// their data.
struct attention {
    const ggml_tensor * q;     // [head_dim, n_tokens, n_head] f32, after RoPE
    const ggml_tensor * k;     // [head_dim, n_kv, n_head_kv] in any type of the cache
    const ggml_tensor * mask;  // [n_kv, >= n_tokens] f16 or f32, contiguous
    const ggml_tensor * sinks; // [n_head] f32, or nullptr
    float scale;
    float max_bias = 0.0f;
    float softcap = 0.0f; // 0: none
};

// The accumulators of scores: [>= n_kv, n_head_kv] f32 each, with contiguous rows, on the runner's
// backend.
struct score_sums {
    const ggml_tensor * sum;
    const ggml_tensor * squares = nullptr; // nullptr: not needed
};

// Adds the attention of some queries i to the accumulators. With p_i = softmax(scale * q_i k^T +
// mask_i), and the mean over the query heads of KV head h:
//
//   sum[j, h] += mean of  sum_i p_ij        squares[j, h] += mean of  sum_i p_ij^2
//
// This computes QK^T once more, but holds only a tile of it at a time. On a CPU it runs in f32 with
// cpu_products, which needs memory for the keys of one head. If runner.compute_bytes() is too
// little for that, and on other devices, it is a ggml graph, whose smallest tile is one query of
// one KV head. A query whose mask hides every cell adds nothing on a CPU, but NaN in the graph.
void add_scores(graph_runner & runner, const attention & attn, const score_sums & out);

// The same from probabilities that have been computed already (flash attention off):
// probs [n_kv, n_tokens, n_head] f32, with contiguous rows.
void add_scores(graph_runner & runner, const ggml_tensor * probs, const score_sums & out);

} // namespace lookm
