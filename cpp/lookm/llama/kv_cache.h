#pragma once

#include "lookm/core/method.h"
#include "lookm/graph/kv_rows.h"

#include "llama.h"

#include <cstdint>
#include <string>
#include <vector>

class llama_kv_cache; // llama.cpp's own; its headers are seen by kv_cache.cpp alone

namespace lookm {

// One cell of a sequence.
struct cell {
    int32_t index; // in the cache
    token_kind kind;
};

// The KV cache of a context as far as compression needs it: storage tensors, cells, and the callback that taps
// attention. Everything that relies on llama.cpp's private headers is behind this class.
class kv_cache {
  public:
    // Throws std::invalid_argument naming the model's memory type when it cannot be compressed.
    explicit kv_cache(llama_context * ctx);

    // Why this context cannot be compressed, "" when it can. memory_type: "kv_cache", "kv_cache_iswa", "hybrid", ...
    static std::string unsupported(llama_context * ctx);
    static std::string memory_type(llama_context * ctx);

    const std::vector<kv_layer> & layers() const { return layers_; }
    int32_t n_cells() const; // allocated, for each sequence's stream
    int32_t n_used() const;
    size_t bytes_per_cell() const; // K and V of all layers
    size_t bytes_allocated() const;

    // Cells of a sequence in the order of their tokens. Cells made from embeddings are image cells.
    std::vector<cell> cells(llama_seq_id seq) const;

    // Row r of every layer now lies in cell target[r]: those cells stay, at the sequence's last position, and all its
    // other cells are emptied. The next token still comes after the whole prompt, and sees every kept cell.
    void keep(llama_seq_id seq, const std::vector<int32_t> & target);

    // Installs (or, with nullptr, removes) the callback that sees every node the scheduler computes.
    void set_eval_callback(ggml_backend_sched_eval_callback callback, void * user_data);

    // The scheduler's own backend that computed this node.
    ggml_backend_t backend_of(ggml_tensor * node) const;
    // The scheduler's backend whose memory holds this cache tensor.
    ggml_backend_t backend_of_storage(const ggml_tensor * storage) const;

  private:
    llama_context * ctx_;
    llama_kv_cache * kv_;
    std::vector<kv_layer> layers_;
};

} // namespace lookm
