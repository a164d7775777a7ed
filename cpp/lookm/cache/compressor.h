#pragma once

#include "lookm/cache/kv_cache.h"
#include "lookm/cache/score_tap.h"
#include "lookm/core/auto_ratio.h"
#include "lookm/core/budget.h"
#include "lookm/core/method.h"
#include "lookm/core/modality.h"
#include "lookm/core/prompt_cap.h"
#include "lookm/core/rank.h"
#include "lookm/graph/compress_graph.h"
#include "lookm/graph/graph_runner.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace lookm {

// How to compress. The caller checks the values (resolve(), split() and automatic() do).
struct compress_options {
    struct method method;
    struct ratios ratios;   // with `automatic`, those of its ceiling: the most that may be kept
    bool on_device = false; // uses the graph for merging even if the cache is in host memory
    // The kind of each cell of the sequence in token order; empty: as kv_cache::cells() says. The
    // text of a context is given as image, which makes it evictable.
    std::vector<token_kind> kind = {};
    bool explain = false; // also fills in compress_result::merged_into and score
    // cells that the whole prompt had before squeeze(), as ratios are fractions of it; 0: as many
    // as there are now
    int32_t n_prompt = 0;
    std::optional<auto_ratio> automatic = {}; // find the ratio from the scores
};

struct compress_result {
    int32_t n_text = 0;
    int32_t n_image = 0; // includes contexts
    int32_t n_keep = 0;
    // n_keep by kind: means over layers and KV heads, as each of them keeps different cells
    cell_counts kept_of;
    std::optional<double> chosen_ratio;   // of options.automatic
    std::optional<double> attention_held; // by the kept cells (auto_ratio.h), where it is known
    std::string note;                     // why nothing was compressed, or ""
    std::string warning;                  // which modality is starved (modality.h), or ""
    double seconds = 0.0;                 // of compress()
    double score_seconds = 0.0;           // that scoring added to the prefill
    // accumulators, plus the most that scoring or compression used in addition
    size_t peak_bytes = 0;
    // number of layers that were merged on the CPU because their backend does not support an op
    int32_t n_staged = 0;
    // for each layer, [n_head_kv, n_keep]: which of the sequence's cells stayed, in token order
    std::vector<std::vector<int32_t>> kept;
    // with options.explain, for each layer, [n_head_kv, n_cells]: the cell that an evicted one was
    // merged into, -1 for kept and dropped ones; and the scores that cells were ranked by
    std::vector<std::vector<int32_t>> merged_into;
    std::vector<std::vector<float>> score;
};

// How many cells compress() would keep of cells of these kinds (options.kind), at most.
budget budget_of(const compress_options & options, std::span<const token_kind> kind);
// Whether compress() may evict any of them.
bool may_evict(const compress_options & options, std::span<const token_kind> kind);

// Compresses the KV cache of a live context: observe() a prefill, then compress() its cells once.
class compressor {
  public:
    // Throws bad_argument "kv_ratio" if the context's memory cannot be compressed. compute_bytes:
    // the limit of what scoring and compression may use on each device in addition to the
    // accumulators; they always use at least the kept rows of one KV head.
    explicit compressor(llama_context * ctx, size_t compute_bytes = default_compute_bytes);

    kv_cache & kv() { return kv_; }
    score_tap & tap() { return tap_; }

    // Call before a prefill: starts to collect the scores that compress() with these options and
    // kinds will need, if it needs any.
    void observe(const compress_options & options);
    bool observed() const { return observed_; }
    double score_seconds() const {
        return observed_ ? tap_.seconds() : 0.0;
    } // of this prompt so far
    // Bytes of the accumulators, plus the most that scoring or squeeze() has used in addition.
    size_t peak_bytes() const;
    void observe_nothing();
    // Like observe(), for a prompt that squeeze() will be called for: the attention of every query
    // counts, until tap().forget().
    void observe_all(const compress_options & options);
    // Call between two batches of that prefill, after tap().disarm(): continues to observe, if
    // there is anything to observe.
    void resume();
    // Whether the scores observed of the current prompt are all that compress() with these options
    // and kinds needs.
    bool covers(const compress_options & options) const;

    // Call before the first batch of a prompt in a cache that several sequences share: reserves the
    // cells [0, n) for seq and moves the rows of other sequences away (kv_cache::isolate). n: cells
    // that seq will have when the prompt has been read. If the cache cannot do that or does not
    // have n free cells, nothing happens, and the prompt is read among the others.
    void isolate(llama_seq_id seq, int32_t n);
    // Call after the prompt, whether it was compressed or not: moves all cells to the lowest
    // places.
    void unite();

    // Counts the cells of seq by kind (one for each cell; empty: as kv_cache::cells() says).
    cell_counts count(llama_seq_id seq, std::span<const token_kind> kind) const;

    // Selects, merges and packs the cells of seq in every layer, and empties the freed cells.
    // Disarms the tap. n_keep is decided before any layer changes, with options.automatic as well.
    //
    // Cells that an earlier compress() packed (kv_cache::packed) do not change and count neither
    // for the budget nor in options.kind, so no cell is compressed twice.
    //
    // Other sequences do not change. If seq shares cells with them (llama_memory_seq_cp), its kept
    // rows are written to other cells, which must be free. The scores of shared cells include the
    // queries of all their sequences since arm().
    //
    // progress(done, total) is called before each layer and at the end, in layers. If it throws,
    // the cells of seq are in an undefined state and the caller must clear them.
    //
    // Throws bad_argument "kind" if the number of kinds is wrong, and std::runtime_error if there
    // are too few free cells for a sequence that shares cells; both before anything changes.
    compress_result compress(llama_seq_id seq, const compress_options & options,
                             const std::function<void(int, int)> & progress = {});

    // Evicts cells between two batches of a prefill: in every layer and KV head, each run of cells
    // keeps the n_keep with the highest rank. Evicted rows are merged into kept rows of these runs,
    // if the method merges. Other rows do not move, and kept rows keep their scores. Disarms the
    // tap; see resume().
    //
    // runs: of the sequence's cells in token order, ascending and without overlap. options: ratios
    // are not used, and kind is that of the cells that there are now. No other sequence may share
    // the cells. Throws bad_argument for runs or kinds that do not fit the cells.
    //
    // Returns for each layer which cells of the runs stayed, in token order: [n_head_kv, sum of
    // n_keep]
    std::vector<std::vector<int32_t>> squeeze(llama_seq_id seq, const compress_options & options,
                                              std::span<const cell_run> runs);

    // A function that says which share of attention (auto_ratio.h) the cells would hold if runs
    // were squeezed; nullopt if no attention is observed. It holds a copy of the sums of all
    // layers, and says nothing about cells that come or go later.
    using held_fn = std::function<std::optional<double>(std::span<const cell_run> runs)>;
    held_fn held_after(llama_seq_id seq, const compress_options & options) const;

    // For tests: from the next prompt on, ops that gate rejects count as unsupported.
    void restrict_to(const op_gate & gate);

  private:
    // The sums of one layer's cells, as far as the method needs them.
    struct layer_sums {
        std::vector<float> sum, squares;
        operator attention_sums() const { return {sum, squares}; }
    };
    layer_sums sums_of(const method & m, size_t i, const std::vector<cell> & cells) const;
    ratio_choice ratio_for(const compress_options & options, const prompt_cells & cells,
                           const std::vector<layer_sums> & sums) const;
    ranking rank_layer(const method & m, const budget & b, size_t i, const layer_sums & sums,
                       const prompt_cells & cells) const;
    matches merge_layer(const kv_layer & layer, const compress_options & options,
                        const layer_plan & plan);
    void move(std::span<const cell_move> moves);

    kv_cache kv_;
    score_tap tap_;
    bool observed_ = false; // the tap was armed for the prompt under way
    graph_runners runners_;
    graph_runner cpu_; // for ops that a layer's backend does not support
    int32_t n_staged_ = 0;
    size_t squeeze_peak_ = 0; // since observe() or observe_all()
};

} // namespace lookm
