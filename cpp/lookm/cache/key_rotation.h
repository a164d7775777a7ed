#pragma once

#include "lookm/cache/kv_cache.h"
#include "lookm/graph/graph_runner.h"

#include "llama.h"

#include <cstdint>
#include <span>

namespace lookm {

// Rotates keys from the positions that they were computed at to others (RoPE). M-RoPE's positions
// all move by the same number, so that it is one rotation there as well.
class key_rotation {
  public:
    key_rotation(llama_context * ctx, const kv_cache & kv);

    // keys: of a layer, f32 [n_cells, n_head_kv * head_dim]; they belong to positions higher by
    // `by` afterwards. layer: index into kv_cache::layers(). Returns whether they have changed:
    // some layers have no positions.
    bool turn(size_t layer, std::span<float> keys, int64_t n_cells, llama_pos by);

  private:
    llama_context * ctx_;
    const kv_cache & kv_;
    graph_runner cpu_;
};

} // namespace lookm
