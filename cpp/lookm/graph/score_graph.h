#pragma once

#include "lookm/graph/graph_runner.h"

#include <cstdint>

namespace lookm {

// What a flash-attention node works on, in ggml order; leaves (as_leaf) or views with their own
// data.
struct attention {
    const ggml_tensor * q;     // [head_dim, n_tokens, n_head] f32, after RoPE
    const ggml_tensor * k;     // [head_dim, n_kv, n_head_kv] any type of the cache
    const ggml_tensor * mask;  // [n_kv, >= n_tokens] f16 or f32, contiguous
    const ggml_tensor * sinks; // [n_head] f32, or nullptr
    float scale;
    float max_bias = 0.0f;
    float softcap = 0.0f; // 0: none
};

// Where scores are added up: [>= n_kv, n_head_kv] f32 each, rows contiguous, on the runner's
// backend.
struct score_sums {
    const ggml_tensor * sum;
    const ggml_tensor * squares = nullptr; // nullptr: not wanted
};

// With p = softmax(scale * q_i k^T + mask_i), and the mean over the query heads of KV head h:
//
//   sum[j, h] += mean of  sum_i p_ij        squares[j, h] += mean of  sum_i p_ij^2
//
// One more QK^T; never holds more than a tile of it. A CPU runs it in f32 as a loop of our own
// (cpu_products), which holds the keys of one head; where runner.compute_bytes() is too little for
// that, and on other devices, it is a ggml graph, which makes do with one query of one KV head at a
// time. A query whose mask hides every cell adds nothing on a CPU, and NaN by the graph.
void add_scores(graph_runner & runner, const attention & attn, const score_sums & out);

// The same from probabilities that exist already (flash attention off): probs [n_kv, n_tokens,
// n_head] f32, rows contiguous.
void add_scores(graph_runner & runner, const ggml_tensor * probs, const score_sums & out);

} // namespace lookm
