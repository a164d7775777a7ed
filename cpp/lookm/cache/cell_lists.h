#pragma once

#include "lookm/cache/kv_cache.h"

#include <cstdint>
#include <vector>

namespace lookm {

// Replaces indices into cells (token order) by the indices of those cells in the cache.
std::vector<int32_t> to_cells(const std::vector<int32_t> & order, const std::vector<cell> & cells);

// The kind of each cell of the cache, up to the last one in cells; kind is in the order of cells.
std::vector<token_kind> by_cell(const std::vector<token_kind> & kind,
                                const std::vector<cell> & cells);

// The given kinds, or the cells' own if none are given. Throws bad_argument "kind" if their number
// is not that of the cells.
std::vector<token_kind> kinds_of(const std::vector<cell> & cells,
                                 const std::vector<token_kind> & given);

} // namespace lookm
