#pragma once

#include "lookm/core/budget.h"
#include "lookm/core/method.h"

#include <cstdint>
#include <span>
#include <vector>

namespace lookm {

// Attention that the cells j of one layer received from the queries i that count, each
// [n_head_kv, n_kv] f32: sum_i p_ij and sum_i p_ij^2, averaged over the query heads of a KV head.
struct attention_sums {
    std::span<const float> sum;            // empty for scorer::none
    std::span<const float> sum_of_squares; // empty unless the method ranks by deviation
};

constexpr float no_lead = -1.0f; // of a cell that comes before no other, whatever its score

// What select() orders the cells of one layer by, each [n_head_kv, n_kv].
struct ranking {
    std::vector<float> score;
    // chooses the cells that come before all scores (deviation or spread); empty for other methods
    std::vector<float> lead;
    // for prior::attention, [n_head_kv]: the part of the attention that image cells receive
    std::vector<double> image_share;
};

// The cells of a prompt, each [n_kv].
struct prompt_cells {
    std::span<const token_kind> kind;   // as select() takes it: text of a context is image
    std::span<const token_kind> source; // what each was made from: text of a context is text
};

// Index in the prompt of the first query that counts: n_kv - window_of() for scorer::window, else
// 0.
int32_t first_query(const method & m, const budget & b, std::span<const token_kind> kind);

// Computes the ranking of one layer from its sums. With f = first_query, and n_j = n_kv - max(j, f)
// the number of queries that see cell j under a causal mask:
//
//   scorer::none  score_j = j, so that later cells rank higher
//   random        score_j = a hash of (seed, layer, head, j), in [0, 1)
//   deviation     score_j = sum_j / n_j
//                 lead_j  = sqrt(max(0, sum_of_squares_j / n_j - score_j^2))
//                 (RoCo, arXiv 2402.06262: mean and standard deviation of the attention that the
//                 queries which see the cell pay to it)
//   spread        score_j = sum_j
//                 lead_j  = frac(0.6180339887498949 j + 0.7548776662466927 (layer n_head_kv + h))
//                 (The multiples of the golden ratio fill [0, 1) evenly, so for any k the k cells
//                 with the largest leads are spaced evenly over the prompt. The second number, from
//                 the two-dimensional version of that sequence, shifts them by layer and head h.)
//                 Cells made from text have no lead, unless the prompt ends with an image.
//   otherwise     score_j = sum_j
//
// With n_pool > 1, the scores before the recent window are then averaged over n_pool neighbours
// (SnapKV). With n_trail > 0, a cell made from text gets the sum over [j - n_trail, j], divided by
// n_pool as well, if that is larger. Cells outside count as zeros. Computed in f64 and rounded once
// to f32.
//
//   image_share = (sum of sum_j over image cells) / (sum of sum_j over all cells),
//                 0 < j < n_kv - n_recent
//                 (The first cell is a sink, whatever the queries ask for.) 1/2 if the sums say
//                 nothing, as with scorer::none, or if the prompt ends with an image.
//
// Throws std::invalid_argument if the sizes do not fit each other.
ranking rank(const method & m, const budget & b, const attention_sums & sums,
             const prompt_cells & cells, int32_t first_query, int64_t n_head_kv, int32_t layer);

// Whether rank() reads the sums, and the sums of squares.
inline bool needs_sums(const method & m) {
    return m.evicts && m.scorer != scorer::none;
}
inline bool needs_squares(const method & m) {
    return m.deviation;
}

} // namespace lookm
