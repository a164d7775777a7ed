#pragma once

#include "lookm/cache/kv_cache.h"

#include "ggml-cpp.h"

#include <cstdint>
#include <span>
#include <vector>

namespace lookm {

// One number for each cell and KV head of every layer, each layer's where its K lies.
class accumulators {
  public:
    explicit accumulators(
        const std::vector<kv_layer> & layers); // throws std::runtime_error when memory is out
    static size_t bytes_for(const std::vector<kv_layer> & layers); // what they will take

    void clear(); // to zero

    // of layers[i]: [n_cells, n_head_kv, n_stream] f32
    const ggml_tensor * tensor(size_t i) const { return tensors_[i]; }
    // [n_head_kv, n_cells of the sequence] in the order of cells, from their stream
    std::vector<float> read(size_t i, const std::vector<cell> & cells) const;
    void write(size_t i, const std::vector<cell> & cells,
               const std::vector<float> & values); // as read() gives them
    // Rows move in one stream of layers[i]: cell to[r] gets what cell from[h, r] of KV head h has,
    // and emptied cells get zeros. A cell may be named in all three.
    void move(size_t i, int32_t stream, std::span<const int32_t> from, std::span<const int32_t> to,
              std::span<const int32_t> emptied);
    size_t bytes() const;

  private:
    std::vector<ggml_context_ptr> contexts_;
    std::vector<ggml_backend_buffer_ptr> buffers_;
    std::vector<ggml_tensor *> tensors_;
};

} // namespace lookm
