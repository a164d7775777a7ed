#pragma once

#include "lookm/graph/matches.h"

namespace lookm {

// Matching as one graph, for devices (match_host is the form for CPUs); ties as the backend's
// argmax breaks them.
matches match_on_device(graph_runner & runner, const kv_rows & k, const match_task & task);

// Evicted rows, and heads, that a device works on at once: so many that about three [n_keep,
// n_evict] matrices of them stay below the runner's bound.
struct evicted_tiles {
    int64_t n_e, n_h; // rows and heads of a tile
    int64_t n_nodes;  // of a graph of at most per_tile nodes for each tile

    evicted_tiles(const graph_runner & runner, int64_t n_keep, int64_t n_evict, int64_t n_head,
                  int64_t per_tile);
};

} // namespace lookm
