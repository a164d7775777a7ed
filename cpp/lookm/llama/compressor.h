#pragma once

#include "lookm/core/budget.h"
#include "lookm/core/method.h"
#include "lookm/graph/graph_runner.h"
#include "lookm/llama/kv_cache.h"
#include "lookm/llama/score_tap.h"

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace lookm {

// How to compress; checked by whoever fills it in (find_method, split_ratio).
struct compress_options {
    const struct method * method = nullptr;
    struct ratios ratios;
    text_overflow overflow = text_overflow::keep;
    bool on_device = false; // merge by the graph form even where the cache is host memory
};

struct compress_result {
    int32_t n_text = 0;
    int32_t n_image = 0;
    int32_t n_keep = 0;
    std::string note; // why nothing was compressed, "" when it was
    double seconds = 0.0;
    size_t peak_bytes = 0; // accumulators, compute buffers, and the host's rows of one head
    // per layer, [n_head_kv, n_keep]: which of the sequence's cells stayed, in token order; for tests and pictures
    std::vector<std::vector<int32_t>> kept;
};

// LOOK-M on a live context: observe a prefill, then compress its cells once.
class compressor {
  public:
    // Throws std::invalid_argument when the context's memory cannot be compressed.
    explicit compressor(llama_context * ctx);

    kv_cache & kv() { return kv_; }
    score_tap & tap() { return tap_; }

    // Selects, merges and packs every layer's cells of seq, and empties the freed cells. The tap is disarmed.
    // progress(done, total) is called before each layer and at the end; if it throws, the cells are in an undefined
    // state and must be cleared by the caller. n_keep is decided before any layer is touched.
    compress_result compress(llama_seq_id seq, const compress_options & options,
                             const std::function<void(int, int)> & progress = {});

  private:
    graph_runner & runner_for(const ggml_tensor * storage);

    kv_cache kv_;
    score_tap tap_;
    std::map<ggml_backend_t, std::unique_ptr<graph_runner>> runners_;
};

} // namespace lookm
