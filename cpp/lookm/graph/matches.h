#pragma once

#include "lookm/core/method.h"
#include "lookm/graph/kv_rows.h"

#include <cstdint>
#include <span>
#include <vector>

namespace lookm {

// What is matched in one layer: every evicted row gets the most similar kept row of its head, by
// the cosine of their keys. A row of zero norm has cosine 0 to every other.
struct match_task {
    std::span<const int32_t> kept;    // [n_head_kv, n_keep] cells of the storage
    std::span<const int32_t> evicted; // [n_head_kv, n_evict]
    std::span<const token_kind>
        kind; // of each cell of the storage: only rows of one kind match; empty: all do
    bool with_weight;
};

struct matches {
    std::vector<int32_t> pivot; // [n_head_kv, n_evict] index into kept; -1: no kept row of its kind
    std::vector<float>
        weight; // [n_head_kv, n_evict] cosine to the pivot, 0 without one; empty unless asked for
};

// Which matched rows a merge takes in, by the method's filter: pivots of rows that are dropped
// become -1.
void filter_matches(matches & m, filter which, int64_t n_head_kv);

// Gives a pivot of -1 (weight 0) to evicted rows whose head keeps no row of their kind; needs
// task.kind.
void drop_unmatched(matches & m, const match_task & task, int64_t n_head_kv);

} // namespace lookm
