#pragma once

#include "lookm/core/budget.h"
#include "lookm/core/method.h"
#include "lookm/core/rank.h"
#include "lookm/graph/graph_runner.h"

#include <cstdint>
#include <span>
#include <vector>

namespace lookm {

// The pipeline's graphs on plain arrays and a CPU backend: one layer, for tests, research and the
// Python arrays module. type is GGML_TYPE_F32 or GGML_TYPE_F16 everywhere; arrays are row-major
// with heads outermost.

// k [n_head_kv, n_kv, head_dim] of type; q [n_head, n_tokens, head_dim] f32; query i sees cells
// 0..n_past+i. Returns scores [n_head_kv, n_kv].
struct score_shape {
    int64_t n_head, n_tokens, head_dim, n_head_kv, n_kv, n_past;
};
std::vector<float> score_arrays(const float * q, const void * k, ggml_type type,
                                const score_shape & shape, float scale, bool on_device);

struct layer_arrays {
    int64_t n_head_kv, n_kv, head_dim_k, head_dim_v;
    const void * k; // [n_head_kv, n_kv, head_dim_k]
    const void * v; // [n_head_kv, n_kv, head_dim_v]
    ggml_type type;
};

struct compressed_arrays {
    int64_t n_keep;
    std::vector<uint8_t> k, v; // [n_head_kv, n_keep, head_dim] of type
    std::vector<int32_t> kept; // [n_head_kv, n_keep]
    std::vector<int32_t>
        merged_into; // [n_head_kv, n_kv] kept cell that an evicted one was merged into; -1: none
};

// What a choice of cells is made from.
struct choice {
    struct method method;
    struct ratios ratios;
    attention_sums sums;
    int64_t n_head_kv;
    int32_t layer; // of the model; random methods draw by it
};

// kept [n_head_kv, n_keep]
std::vector<int32_t> select_arrays(const choice & c, const budget & b,
                                   std::span<const token_kind> kind);

compressed_arrays compress_arrays(const layer_arrays & layer, const choice & c,
                                  std::span<const token_kind> kind, bool on_device);

} // namespace lookm
