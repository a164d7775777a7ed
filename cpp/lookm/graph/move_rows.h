#pragma once

#include "lookm/graph/kv_rows.h"

#include <cstdint>
#include <span>

namespace lookm {

// Cells [from, from + n) of a cache become its cells [to, to + n).
struct cell_move {
    int32_t from, to, n;
};

// Moves the rows of one layer, K and V, byte for byte. All rows are read before any is written, so
// moves may overlap; a cell that is not written to keeps its row. runner: of the backend whose
// memory holds the layer. cpu: of the CPU, for a backend that refuses to copy rows.
void move_rows(graph_runner & runner, graph_runner & cpu, const kv_layer & layer,
               std::span<const cell_move> moves);

} // namespace lookm
