#pragma once

#include "lookm/cache/kv_cache.h"

#include <cstdint>
#include <vector>

namespace lookm {

// Token order -> cell index, for every entry.
std::vector<int32_t> to_cells(const std::vector<int32_t> & order, const std::vector<cell> & cells);

// Kind of each cell of the storage, as far as cells reach.
std::vector<token_kind> by_cell(const std::vector<token_kind> & kind,
                                const std::vector<cell> & cells);

// As given, or as the cells say where nothing is. Throws std::invalid_argument unless there is one
// for each cell.
std::vector<token_kind> kinds_of(const std::vector<cell> & cells,
                                 const std::vector<token_kind> & given);

} // namespace lookm
