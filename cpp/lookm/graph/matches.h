#pragma once

#include "lookm/core/method.h"
#include "lookm/graph/kv_rows.h"

#include <cstdint>
#include <span>
#include <vector>

namespace lookm {

// Input of matching one layer, which finds for every evicted row its pivot: the kept row of the
// same head whose key has the highest cosine similarity. A zero key has cosine 0 to every other.
struct match_task {
    std::span<const int32_t> kept;    // [n_head_kv, n_keep] cells of the storage
    std::span<const int32_t> evicted; // [n_head_kv, n_evict]
    // of each cell of the storage: a pivot must be of the row's own kind; empty: of any kind
    std::span<const token_kind> kind;
    bool with_weight; // whether matches.weight is wanted
};

struct matches {
    std::vector<int32_t> pivot; // [n_head_kv, n_evict] index into kept; -1: no kept row of its kind
    // [n_head_kv, n_evict] cosine to the pivot, 0 without one; empty unless with_weight
    std::vector<float> weight;
};

// Applies the method's filter: the pivots of rows that are not merged become -1. Filters other than
// `all` need the weights.
void filter_matches(matches & m, filter which, int64_t n_head_kv);

// Sets the pivot to -1 and the weight to 0 for evicted rows whose head keeps no row of their kind.
// Needs task.kind.
void drop_unmatched(matches & m, const match_task & task, int64_t n_head_kv);

} // namespace lookm
