#pragma once

#include "lookm/graph/kv_rows.h"

#include <cstdint>
#include <span>

namespace lookm {

// Moves cells [from, from + n) of a cache to [to, to + n).
struct cell_move {
    int32_t from, to, n;
};

// Moves the K and V rows of one layer byte for byte. All rows are read before any is written, so
// moves may overlap; a cell that is not a target keeps its row. runner: the one of the backend
// whose memory holds the layer. cpu: the CPU's runner, for a backend that cannot copy such rows.
void move_rows(graph_runner & runner, graph_runner & cpu, const kv_layer & layer,
               std::span<const cell_move> moves);

} // namespace lookm
