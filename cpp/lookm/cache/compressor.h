#pragma once

#include "lookm/cache/kv_cache.h"
#include "lookm/cache/score_tap.h"
#include "lookm/core/budget.h"
#include "lookm/core/method.h"
#include "lookm/core/modality.h"
#include "lookm/core/prompt_cap.h"
#include "lookm/core/rank.h"
#include "lookm/graph/compress_graph.h"
#include "lookm/graph/graph_runner.h"

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace lookm {

// How to compress; checked by whoever fills it in (resolve, split).
struct compress_options {
    struct method method;
    struct ratios ratios;
    bool on_device = false; // merge by the graph form even where the cache is host memory
    // Of each cell of the sequence, in token order; empty: as the cells say (kv_cache::cells). Text
    // of a context is declared evictable by calling it image.
    std::vector<token_kind> kind = {};
    bool explain = false; // fill in compress_result::merged_into and score, too
    int32_t n_prompt = 0; // cells that the prompt had before squeeze(), of which ratios are shares
};

struct compress_result {
    int32_t n_text = 0;
    int32_t n_image = 0; // with contexts
    int32_t n_keep = 0;
    cell_counts
        kept_of;      // of n_keep: means over layers and KV heads, as each keeps cells of its own
    std::string note; // why nothing was compressed, "" when it was
    std::string warning; // which modality starves, "" for none
    double seconds = 0.0;
    double score_seconds = 0.0; // within the prefill
    size_t peak_bytes =
        0;                // accumulators, and the most that scoring or compression took beside them
    int32_t n_staged = 0; // layers merged on the CPU because the backend that holds them refuses
    // per layer, [n_head_kv, n_keep]: which of the sequence's cells stayed, in token order; for
    // tests and pictures
    std::vector<std::vector<int32_t>> kept;
    // the same, [n_head_kv, n_cells], where it was asked for: the cell that an evicted one was
    // merged into, -1 for kept and dropped ones; and what cells were ranked by
    std::vector<std::vector<int32_t>> merged_into;
    std::vector<std::vector<float>> score;
};

// What compress() would keep of cells of these kinds (options.kind).
budget budget_of(const compress_options & options, std::span<const token_kind> kind);

// LOOK-M on a live context: observe a prefill, then compress its cells once.
class compressor {
  public:
    // Throws std::invalid_argument when the context's memory cannot be compressed.
    // compute_bytes: what scoring and compression may take beside the accumulators, on each device;
    // one KV head's kept rows at least.
    explicit compressor(llama_context * ctx, size_t compute_bytes = default_compute_bytes);

    kv_cache & kv() { return kv_; }
    score_tap & tap() { return tap_; }

    // Before a prefill: starts to observe what compress() with these options, kinds included, will
    // need of it. That may be nothing.
    void observe(const compress_options & options);
    bool observed() const { return observed_; }
    double score_seconds() const { return observed_ ? tap_.seconds() : 0.0; } // so far
    size_t peak_bytes()
        const; // accumulators, and the most that scoring or squeeze() has taken beside them
    void observe_nothing();
    // The same where squeeze() will be called: every query counts, up to tap().forget().
    void observe_all(const compress_options & options);
    // Between two batches of that prefill, after tap().disarm(): goes on, if there is something to
    // observe.
    void resume();
    // Whether what was observed of the prompt under way is all that compress() with these options,
    // kinds included, needs.
    bool covers(const compress_options & options) const;

    // Before the first batch of a prompt in a cache that several sequences share: seq gets the
    // cells [0, n), as many as it will have when the prompt is read, and rows of other sequences
    // make way (kv_cache::isolate). Nothing happens where a cache cannot do that or has no room for
    // n cells more; the prompt is then read among the others.
    void isolate(llama_seq_id seq, int32_t n);
    // Afterwards, compressed or not: all cells move down to the lowest ones.
    void unite();

    // Cells that seq has, of these kinds (one for each cell; empty: as the cells say).
    cell_counts count(llama_seq_id seq, std::span<const token_kind> kind) const;

    // Selects, merges and packs every layer's cells of seq, and empties the freed cells. The tap is
    // disarmed. Cells that are packed already (kv_cache::packed) stay as they are, outside budget
    // and kinds: none is compressed twice. Throws std::invalid_argument for kinds that are not one
    // for each other cell. Other sequences stay as they are: of cells that they share with seq
    // (llama_memory_seq_cp), seq gets rows of its own, which takes that many free cells; without
    // them std::runtime_error is thrown before anything is changed. The scores of shared cells hold
    // the attention of all their sequences' queries since arm(). progress(done, total) is called
    // before each layer and at the end; if it throws, the cells are in an undefined state and must
    // be cleared by the caller. n_keep is decided before any layer is touched.
    compress_result compress(llama_seq_id seq, const compress_options & options,
                             const std::function<void(int, int)> & progress = {});

    // Between two batches of a prefill: in every layer and KV head of seq each run of its cells
    // (ascending, apart, in the order of its tokens) shrinks to the n_keep of the highest rank. By
    // the method's way of merging, evicted rows go into rows that stay of these runs. No other row
    // moves. Kept rows take their scores along. ratios mean nothing here, kind is of the cells
    // there are now. The tap is disarmed; see resume(). No other sequence may share the cells.
    // Throws std::invalid_argument for runs or kinds that do not fit the cells.
    //
    // Returns for each layer which cells of the runs stayed, in token order: [n_head_kv, sum of
    // n_keep]
    std::vector<std::vector<int32_t>> squeeze(llama_seq_id seq, const compress_options & options,
                                              std::span<const cell_run> runs);

    // Backends refuse what gate refuses, too, from the next prompt on. For tests.
    void restrict_to(const op_gate & gate);

  private:
    ranking rank_layer(const method & m, const budget & b, int i, const std::vector<cell> & cells,
                       std::span<const token_kind> kind) const;
    matches merge_layer(const kv_layer & layer, const compress_options & options,
                        const layer_plan & plan);
    void move(std::span<const cell_move> moves);

    kv_cache kv_;
    score_tap tap_;
    bool observed_ = false; // the tap was armed for the prompt under way
    graph_runners runners_;
    graph_runner cpu_; // for layers whose backend refuses
    int32_t n_staged_ = 0;
    size_t squeeze_peak_ = 0; // since observe() or observe_all()
};

} // namespace lookm
