#pragma once

#include "lookm/graph/graph_runner.h"

#include <cstdint>

namespace lookm {

// What a flash-attention node works on, in ggml order; leaves (as_leaf) or views with their own data.
struct attention {
    const ggml_tensor * q;     // [head_dim, n_tokens, n_head] f32, after RoPE
    const ggml_tensor * k;     // [head_dim, n_kv, n_head_kv] any type of the cache
    const ggml_tensor * mask;  // [n_kv, >= n_tokens] f16 or f32, contiguous
    const ggml_tensor * sinks; // [n_head] f32, or nullptr
    float scale;
    float max_bias = 0.0f;
    float softcap = 0.0f; // 0: none
};

// sum[j, h] += mean over the query heads of KV head h of  sum_i softmax(scale * q_i k^T + mask_i)_j   (spec 1.2 and 4)
//
//   sum [>= n_kv, n_head_kv] f32, on the runner's backend
//
// One more QK^T; never holds more than a tile of it. A CPU runs it in f32 as a loop of our own (cpu_products), another
// device as a ggml graph.
void add_scores(graph_runner & runner, const attention & attn, const ggml_tensor * sum);

// The same from probabilities that exist already (flash attention off): probs [n_kv, n_tokens, n_head] f32.
void add_scores(graph_runner & runner, const ggml_tensor * probs, const ggml_tensor * sum);

} // namespace lookm
