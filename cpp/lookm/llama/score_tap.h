#pragma once

#include "lookm/graph/graph_runner.h"
#include "lookm/llama/kv_cache.h"

#include <exception>
#include <map>
#include <memory>
#include <vector>

namespace lookm {

// Sums the attention that every cell receives, while llama.cpp prefills.
//
// An eval callback sees each layer's attention node right after it was computed, with its inputs still in place, and
// adds its column sums (score_graph) to one accumulator per layer, on the backend that computed the node. With flash
// attention on, the node is GGML_OP_FLASH_ATTN_EXT; with it off, the probabilities kq_soft_max-<layer>. Nothing else is
// touched.
class score_tap {
  public:
    explicit score_tap(kv_cache & kv); // kv must outlive the tap
    ~score_tap();
    score_tap(const score_tap &) = delete;
    score_tap & operator=(const score_tap &) = delete;

    void arm();    // zero the sums and start to listen
    void disarm(); // stop to listen: decode runs as if the tap had never been
    // An exception inside the callback stops that graph; it comes out here, after llama.cpp has returned.
    void rethrow();

    // score [n_head_kv, n_cells of the sequence] of layers()[i], in the order of cells
    std::vector<float> scores(size_t i, const std::vector<cell> & cells) const;

    double seconds() const { return seconds_; }
    size_t peak_bytes() const; // accumulators and compute buffers

  private:
    static bool on_node(ggml_tensor * node, bool ask, void * self);
    int layer_of(const ggml_tensor * node) const; // index into layers(), -1: not an attention node of this cache
    void observe(ggml_tensor * node, size_t i);
    graph_runner & runner_for(ggml_backend_t backend);

    kv_cache & kv_;
    std::vector<ggml_context_ptr> contexts_;
    std::vector<ggml_backend_buffer_ptr> buffers_;
    std::vector<ggml_tensor *> sums_; // per layer [n_cells, n_head_kv] f32
    std::map<const ggml_tensor *, size_t> layer_by_storage_;
    std::map<ggml_backend_t, std::unique_ptr<graph_runner>> runners_;
    std::exception_ptr error_;
    double seconds_ = 0.0;
    bool armed_ = false;
};

} // namespace lookm
