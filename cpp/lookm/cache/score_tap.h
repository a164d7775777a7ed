#pragma once

#include "lookm/cache/accumulators.h"
#include "lookm/cache/kv_cache.h"
#include "lookm/cache/query_count.h"
#include "lookm/graph/graph_runner.h"

#include <cstdint>
#include <exception>
#include <optional>
#include <span>
#include <vector>

namespace lookm {

// What to observe of a prompt.
struct tap_plan {
    bool squares = false; // also the sums of squared probabilities
    // Index in the prompt of the first query that counts. Ubatches before it are not observed and
    // cost nothing; in the ubatch that contains it, only the queries from it on count.
    int32_t first_query = 0;
};

// Adds up the attention that every cell receives while llama.cpp prefills.
//
// An eval callback sees each layer's attention node right after it was computed, while its inputs
// are still in place, and adds its column sums (score_graph.h) to the layer's accumulator, on the
// backend that computed the node. With flash attention, the node is GGML_OP_FLASH_ATTN_EXT; without
// it, the softmax. Nothing else is touched. If later layers read this layer's cache instead of one
// of their own, their attention is added as well.
//
// Which token a query belongs to is known by counting: llama.cpp processes the tokens of a sequence
// in order, each once in every layer (and once more in each layer that reads its cache), regardless
// of batches, positions (M-RoPE) and masks (non-causal images). If each sequence has its own
// stream, each is counted and added up separately. If sequences share a stream and first_query > 0,
// only one of them may be decoded while the tap listens.
class score_tap {
  public:
    score_tap(kv_cache & kv, size_t compute_bytes); // kv must outlive the tap
    ~score_tap();
    score_tap(const score_tap &) = delete;
    score_tap & operator=(const score_tap &) = delete;

    // Sets the sums to zero and starts to listen. Throws bad_argument "first_query" if it is
    // negative.
    void arm(const tap_plan & plan = {});
    // Stops listening and frees the compute buffers: decoding runs as if there were no tap.
    void disarm();
    // Call when the context is gone, so that the tap no longer uses it.
    void abandon() { armed_ = false; }
    // Sets the sums to zero and keeps listening. Of the stream of seq, the next n_rows queries do
    // not count.
    void forget(int64_t n_rows = 0, llama_seq_id seq = 0);
    // Continues after disarm() with the sums so far.
    void listen();
    // Call after arm() if the first n tokens of the prompt are in the cache already.
    void begin_after(int64_t n);
    // An exception in the callback stops the graph. Rethrows it; call when llama.cpp has returned.
    void rethrow();
    void drop_error() { error_ = nullptr; }

    const tap_plan & plan() const { return plan_; } // of the last arm()

    // The scores of a sequence's cells in layers()[i]: [n_head_kv, cells.size()] in the order of
    // cells
    std::vector<float> scores(size_t i, const std::vector<cell> & cells) const;
    // The same for squared probabilities. Throws std::logic_error unless plan().squares is set.
    std::vector<float> squares(size_t i, const std::vector<cell> & cells) const;

    // Puts scores(), and squares() where the plan has them, of another context into this tap, which
    // must be armed, so that the sequence can continue in this context.
    void restore(size_t i, const std::vector<cell> & cells, const std::vector<float> & scores,
                 const std::vector<float> & squares = {});
    // Moves the sums along with the rows of their cells (accumulators::move).
    void move(size_t i, int32_t stream, std::span<const int32_t> from, std::span<const int32_t> to,
              std::span<const int32_t> emptied);

    void restrict_to(const op_gate & gate) { runners_.by_backend.restrict_to(gate); } // for tests

    double seconds() const { return seconds_; } // spent since arm()
    size_t bytes() const;                       // of the accumulators
    // The most bytes that scoring used in addition to them, as of the last disarm()
    size_t compute_peak() const { return runners_.peak; }

  private:
    // What the sums are computed with.
    struct runners {
        graph_runners by_backend;
        graph_runner cpu; // for nodes whose backend does not support the sums
        size_t peak = 0;  // most bytes that they used, as of the last disarm()
    };

    static bool on_node(ggml_tensor * node, bool ask, void * self);
    // Index into layers(); -1 if this is not an attention node of this cache
    int layer_of(const ggml_tensor * node) const;
    node_queries queries_of(const ggml_tensor * node, size_t i) const;
    void observe(ggml_tensor * node, const node_queries & here, size_t i);

    kv_cache & kv_;
    tap_plan plan_;
    accumulators sums_;
    std::optional<accumulators> squares_;
    query_count queries_;
    runners runners_;
    std::exception_ptr error_;
    double seconds_ = 0.0;
    bool armed_ = false;
};

} // namespace lookm
