#pragma once

#include "lookm/core/budget.h"
#include "lookm/core/method.h"
#include "lookm/core/rank.h"

#include <cstdint>
#include <span>

namespace lookm {

// Cells that survive, for each KV head of one layer (LOOK-M eq. 5-8 in exact arithmetic).
//
//   ranks  score [n_head_kv, n_kv], lead likewise or empty
//   kind   [n_kv]                  text or image
//   kept   [n_head_kv, n_keep]     out, ascending in each row
//
// The last n_recent cells always stay. The others stand in a queue: the method's n_sink first
// cells; then those of the largest lead, as many as a tenth of n_keep (deviation), or image cells
// in the method's share `spread` (all, where the prompt ends with an image) of those that the
// budget has room for beside all text, n_visual at least; then, with prior::text, text before
// image; then the higher score; then the lower cell. A NaN ranks below every number. The first
// n_visual image cells of the queue stay, and of what is left the first, until n_important stay.
//
// Example: n_kv = 6, n_recent = 1, n_important = 2, kind = T I I T I T, score = 1 9 8 2 7 0
//   prior::none -> 1 2 5      prior::text -> 0 3 5      prior::text, n_visual = 1 -> 1 3 5
//
// Throws std::invalid_argument when the sizes do not fit each other.
void select(const method & m, const budget & b, const ranking & ranks,
            std::span<const token_kind> kind, std::span<int32_t> kept);

// The complement: cells of 0..n_kv-1 that are not in kept (ascending), ascending. One head.
void complement(std::span<const int32_t> kept, std::span<int32_t> evicted);

} // namespace lookm
