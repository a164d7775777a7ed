#pragma once

#include "lookm/core/budget.h"
#include "lookm/core/method.h"
#include "lookm/core/rank.h"

#include <cstdint>
#include <span>

namespace lookm {

// Chooses the cells to keep, for each KV head of one layer (LOOK-M eq. 5-8 in exact arithmetic).
//
//   ranks  score [n_head_kv, n_kv], lead of the same shape or empty
//   kind   [n_kv]                  text or image
//   kept   [n_head_kv, n_keep]     out, ascending in each row
//
// The last n_recent cells always stay. The others are put in this order:
//   1. the first n_sink cells of the prompt
//   2. the cells with the largest leads. For deviation, n_keep / 10 of them. For spread,
//      floor(spread * g * r) of the image cells that have one, which are a share g of all image
//      cells; r is V, or, if text comes before images, what the important budget has left once all
//      text is in, but at least V. If the prompt ends with an image, spread counts as 1.
//   3. with prior::text, or with prior::attention if the prompt ends with an image, text cells
//   4. all other cells
// Within each group the higher score comes first, then the earlier cell; NaN ranks below every
// number. The first V image cells in this order stay, then the first T text cells, then the first
// of the remaining cells, n_important in all. V is n_visual, and T is 0. With prior::attention,
// they are as many cells of each as there are before the recent window, but at most
//   V  floor(min(max(image_share, q), max(q, 1 - t)) n_important)   q = visual_quota
//   T  min(floor(t n_important), n_important - V)                  t = text_quota
//
// Example: n_kv = 6, n_recent = 1, n_important = 2, kind = T I I T I T, score = 1 9 8 2 7 0
//   prior::none -> 1 2 5      prior::text -> 0 3 5      prior::text, n_visual = 1 -> 1 3 5
//
// Throws std::invalid_argument if the sizes do not fit each other or n_kv exceeds 2^30.
void select(const method & m, const budget & b, const ranking & ranks,
            std::span<const token_kind> kind, std::span<int32_t> kept);

// Writes the cells of 0..n_kv-1 that are not in kept to evicted [n_kv - n_keep], for one head. Both
// are ascending.
void complement(std::span<const int32_t> kept, std::span<int32_t> evicted);

} // namespace lookm
