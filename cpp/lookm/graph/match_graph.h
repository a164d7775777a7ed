#pragma once

#include "lookm/graph/matches.h"

namespace lookm {

// Matching as one ggml graph, for devices (match_on_host is the one for CPUs). Of equally similar
// rows, the backend's argmax decides.
matches match_on_device(graph_runner & runner, const kv_rows & k, const match_task & task);

// The number of evicted rows and heads that a device works on at a time: as large as possible while
// about three matrices [n_keep, n_e, n_h] stay below tile_bytes().
struct evicted_tiles {
    int64_t n_e, n_h; // evicted rows and heads of a tile
    int64_t n_nodes;  // size of the whole graph, with at most per_tile nodes for each tile

    evicted_tiles(const graph_runner & runner, int64_t n_keep, int64_t n_evict, int64_t n_head,
                  int64_t per_tile);
};

} // namespace lookm
