#pragma once

#include "lookm/core/budget.h"
#include "lookm/core/method.h"
#include "lookm/core/rank.h"
#include "lookm/graph/graph_runner.h"

#include <cstdint>
#include <span>
#include <vector>

namespace lookm {

// Scoring, selection and compression of one layer on plain arrays and a CPU backend: for tests,
// research and the Python module lookm_cpp.arrays. type is always GGML_TYPE_F32 or GGML_TYPE_F16;
// arrays are row-major with heads outermost.

// Scores [n_head_kv, n_kv] of keys k [n_head_kv, n_kv, head_dim] of type by queries
// q [n_head, n_tokens, head_dim] f32. Query i sees cells 0..n_past+i.
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
    // [n_head_kv, n_kv] the kept cell that each evicted cell was merged into; -1: none
    std::vector<int32_t> merged_into;
};

// The inputs of choosing cells in one layer.
struct choice {
    struct method method;
    struct ratios ratios;
    attention_sums sums;
    int64_t n_head_kv;
    int32_t layer; // index in the model; the method random and the spread depend on it
};

// Returns the kept cells [n_head_kv, n_keep], ascending for each head.
std::vector<int32_t> select_arrays(const choice & c, const budget & b,
                                   std::span<const token_kind> kind);

compressed_arrays compress_arrays(const layer_arrays & layer, const choice & c,
                                  std::span<const token_kind> kind, bool on_device);

} // namespace lookm
