#pragma once

#include "lookm/cache/accumulators.h"
#include "lookm/cache/kv_cache.h"
#include "lookm/graph/graph_runner.h"

#include <cstdint>
#include <exception>
#include <map>
#include <optional>
#include <span>
#include <vector>

namespace lookm {

// What to observe of a prompt.
struct tap_plan {
    bool squares = false; // also the sums of squared probabilities
    // Token of the prompt, counted from its first one, whose query is the first that counts.
    // Ubatches before it are not observed and cost nothing; in one that holds it only the rows from
    // it on count.
    int32_t first_query = 0;
};

// Sums the attention that every cell receives, while llama.cpp prefills.
//
// An eval callback sees each layer's attention node right after it was computed, with its inputs
// still in place, and adds its column sums (score_graph) to one accumulator per layer, on the
// backend that computed the node. With flash attention on, the node is GGML_OP_FLASH_ATTN_EXT; with
// it off, the softmax. Nothing else is touched. Where further layers read a layer's cache instead
// of one of their own, its cells get their attention too.
//
// A row's token is known by counting: llama.cpp hands the tokens of a sequence over in their order,
// each once in every layer (and once more in each layer that reads its cache), whatever the
// batches, the positions (M-RoPE) or the mask (non-causal images). Where the cache has a stream for
// each sequence, each counts and adds up for itself. Of sequences that share one stream, only one
// may be decoded while the tap listens where first_query > 0.
class score_tap {
  public:
    score_tap(kv_cache & kv, size_t compute_bytes); // kv must outlive the tap
    ~score_tap();
    score_tap(const score_tap &) = delete;
    score_tap & operator=(const score_tap &) = delete;

    void arm(const tap_plan & plan =
                 {}); // zero the sums and start to listen; throws std::invalid_argument
    void disarm(); // stop to listen: decode runs as if the tap had never been, and compute buffers
                   // are freed
    void abandon() { armed_ = false; } // the context is gone, and so is who calls
    // Zero the sums, and go on as before; of the rows that come next the first n_rows do not count.
    void forget(int64_t n_rows = 0, llama_seq_id seq = 0); // of this sequence's stream
    void listen(); // go on after disarm(), with the sums so far
    // Of the prompt that arm() was called for, the first n tokens are in the cache already.
    void begin_after(int64_t n);
    // An exception inside the callback stops that graph; it comes out here, after llama.cpp has
    // returned.
    void rethrow();
    void drop_error() { error_ = nullptr; }

    const tap_plan & plan() const { return plan_; } // of the last arm()

    // score [n_head_kv, n_cells of the sequence] of layers()[i], in the order of cells
    std::vector<float> scores(size_t i, const std::vector<cell> & cells) const;
    // the same of squared probabilities; throws std::logic_error unless the plan asked for them
    std::vector<float> squares(size_t i, const std::vector<cell> & cells) const;

    // Puts scores back into another context's tap, which has been armed: its sequence goes on where
    // it was.
    void restore(size_t i, const std::vector<cell> & cells, const std::vector<float> & scores);
    // Sums follow their rows (accumulators::move).
    void move(size_t i, int32_t stream, std::span<const int32_t> from, std::span<const int32_t> to,
              std::span<const int32_t> emptied);

    void restrict_to(const op_gate & gate) { runners_.restrict_to(gate); } // for tests

    double seconds() const { return seconds_; }
    size_t bytes() const; // accumulators
    size_t compute_peak() const {
        return compute_peak_;
    } // most that was taken beside them until disarm()

  private:
    struct rows; // of an attention node

    static bool on_node(ggml_tensor * node, bool ask, void * self);
    int layer_of(const ggml_tensor * node)
        const; // index into layers(), -1: not an attention node of this cache
    rows rows_of(const ggml_tensor * node, size_t i) const;
    bool skips(const rows & here, size_t i);
    void count(const rows & here, size_t i);
    void observe(ggml_tensor * node, const rows & here, size_t i);

    kv_cache & kv_;
    size_t compute_peak_ = 0;
    tap_plan plan_;
    accumulators sums_;
    std::optional<accumulators> squares_;
    std::vector<std::vector<int64_t>> n_seen_; // [layer][stream]: rows so far
    std::vector<int> n_read_; // of each layer's cache, in this ubatch: layers that have read it
    std::map<const ggml_tensor *, size_t> layer_by_storage_;
    graph_runners runners_;
    graph_runner cpu_; // for nodes whose backend refuses to sum them
    std::exception_ptr error_;
    double seconds_ = 0.0;
    bool armed_ = false;
};

} // namespace lookm
