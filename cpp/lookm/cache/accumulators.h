#pragma once

#include "lookm/cache/kv_cache.h"

#include "ggml-cpp.h"

#include <cstdint>
#include <span>
#include <vector>

namespace lookm {

// One f32 for each cell and KV head of every layer, on the device that holds the layer's K.
class accumulators {
  public:
    // Throws std::runtime_error if memory runs out.
    explicit accumulators(const std::vector<kv_layer> & layers);
    // The bytes that accumulators for these layers take.
    static size_t bytes_for(const std::vector<kv_layer> & layers);

    void clear(); // sets all to zero

    // Those of layers[i]: [n_cells, n_head_kv, n_stream] f32 in ggml order
    const ggml_tensor * tensor(size_t i) const { return tensors_[i]; }
    // The numbers of a sequence's cells in layers[i]: [n_head_kv, cells.size()] in the order of
    // cells
    std::vector<float> read(size_t i, const std::vector<cell> & cells) const;
    // Sets them; values as read() returns them.
    void write(size_t i, const std::vector<cell> & cells, const std::vector<float> & values);
    // Moves numbers within one stream of layers[i]: in KV head h, cell to[r] gets the number of
    // cell from[h, r], and emptied cells get zeros. A cell may be in all three lists.
    void move(size_t i, int32_t stream, std::span<const int32_t> from, std::span<const int32_t> to,
              std::span<const int32_t> emptied);
    size_t bytes() const;

  private:
    std::vector<ggml_context_ptr> contexts_;
    std::vector<ggml_backend_buffer_ptr> buffers_;
    std::vector<ggml_tensor *> tensors_;
};

} // namespace lookm
