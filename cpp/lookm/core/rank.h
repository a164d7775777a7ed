#pragma once

#include "lookm/core/budget.h"
#include "lookm/core/method.h"

#include <cstdint>
#include <span>
#include <vector>

namespace lookm {

// Attention that the cells of one layer received from the queries that count, each [n_head_kv,
// n_kv] f32: the mean over a KV head's query heads of sum_i p_ij and of sum_i p_ij^2.
struct attention_sums {
    std::span<const float> sum;            // empty for scorer::none
    std::span<const float> sum_of_squares; // empty unless the method ranks by deviation
};

// By what select() ranks the cells of one layer, both [n_head_kv, n_kv].
struct ranking {
    std::vector<float> score;
    std::vector<float>
        lead; // by what the first of the queue are chosen, deviation or spread; else empty
};

// Index in the prompt of the first query that counts: that of the last window_of(), 0 unless the
// scorer is a window.
int32_t first_query(const method & m, const budget & b, std::span<const token_kind> kind);

// Sums to ranks. With f = first_query, and n_j = n_kv - max(j, f) the queries that see cell j by a
// causal mask:
//
//   none       score_j = j, so that later cells rank higher; random: a hash of (seed, layer, head,
//   j), in [0, 1) deviation  score_j = sum_j / n_j,  lead_j = sqrt(max(0, sum_of_squares_j / n_j -
//   score_j^2))
//              (RoCo, arXiv 2402.06262: mean attention over the causal observers, standard
//              deviation of it)
//   spread     score_j = sum_j,  lead_j = frac(0.6180339887498949 j + 0.7548776662466927 (layer
//   n_head_kv + h))
//              (the golden ratio's multiples fill [0, 1) evenly, so that the cells of the largest
//              leads, however many, lie evenly over the prompt; the other number, of the plane's
//              like sequence, shifts them by layer and head)
//   otherwise  score_j = sum_j
//
// and with n_pool > 1 the scores before the recent window are averaged over n_pool neighbours,
// cells outside counting as zeros (SnapKV). Computed in f64, rounded once to f32. Throws
// std::invalid_argument when sizes do not fit.
ranking rank(const method & m, const budget & b, const attention_sums & sums, int32_t first_query,
             int64_t n_head_kv, int32_t layer);

// Whether rank() reads sums, and sums of squares.
inline bool needs_sums(const method & m) {
    return m.evicts && m.scorer != scorer::none;
}
inline bool needs_squares(const method & m) {
    return m.deviation;
}

} // namespace lookm
