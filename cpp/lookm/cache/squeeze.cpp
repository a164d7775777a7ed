// compressor::squeeze(): what a compressor does while a prompt is still being read.

#include "lookm/cache/cell_lists.h"
#include "lookm/cache/compressor.h"
#include "lookm/core/bad_argument.h"
#include "lookm/core/select.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

namespace lookm {

namespace {

void check_runs(std::span<const cell_run> runs, size_t n_cells) {
    int64_t end = 0;
    for (const cell_run & r : runs) {
        if (r.first < end || r.n_keep < 1 || r.n_keep > r.n) {
            throw bad_argument("runs", std::to_string(r.n_keep) + " of " + std::to_string(r.n) +
                                           " cells from " + std::to_string(r.first) +
                                           " on, expected ascending runs that keep 1 cell or more");
        }
        end = static_cast<int64_t>(r.first) + r.n;
    }
    if (end > static_cast<int64_t>(n_cells)) {
        throw bad_argument("runs", "they end at cell " + std::to_string(end) + " of " +
                                       std::to_string(n_cells));
    }
}

// Cells of the runs, in token order: kept [n_head_kv, n_keep], evicted [n_head_kv, n_evict].
struct choice {
    std::vector<int32_t> kept, evicted;
};

choice choose(std::span<const cell_run> runs, const ranking & ranks, int64_t n_head_kv,
              int32_t n_kv) {
    constexpr method by_score = {
        .name = "", .scorer = scorer::none, .prior = prior::none, .merge = merge::none};
    choice out;
    for (int64_t h = 0; h < n_head_kv; ++h) {
        for (const cell_run & run : runs) {
            const float * first = ranks.score.data() + h * n_kv + run.first;
            const std::vector<token_kind> kind(run.n,
                                               token_kind::image); // ranks are by score alone
            std::vector<int32_t> kept(run.n_keep), evicted(run.n - run.n_keep);
            select(by_score, {run.n, run.n_keep, 0}, {{first, first + run.n}, {}, {}}, kind, kept);
            complement(kept, evicted);
            for (const int32_t c : kept) {
                out.kept.push_back(run.first + c);
            }
            for (const int32_t c : evicted) {
                out.evicted.push_back(run.first + c);
            }
        }
    }
    return out;
}

// All cells [n_head_kv, n_kv] but the evicted ones.
std::vector<int32_t> all_but(const std::vector<int32_t> & evicted, int64_t n_head_kv,
                             int32_t n_kv) {
    const size_t n_evict = evicted.size() / n_head_kv, n_keep = n_kv - n_evict;
    std::vector<int32_t> out(n_head_kv * n_keep);
    for (int64_t h = 0; h < n_head_kv; ++h) {
        complement({evicted.data() + h * n_evict, n_evict}, {out.data() + h * n_keep, n_keep});
    }
    return out;
}

} // namespace

compressor::held_fn compressor::held_after(llama_seq_id seq,
                                           const compress_options & options) const {
    struct layer {
        std::vector<float> sum;
        ranking ranks;
        int64_t n_head_kv;
    };
    std::vector<layer> layers;
    const std::vector<cell> cells = kv_.cells(seq);
    const auto n_kv = static_cast<int32_t>(cells.size());
    const std::vector<token_kind> kind = kinds_of(cells, options.kind),
                                  source = kinds_of(cells, {});
    for (size_t i = 0; observed_ && i < kv_.layers().size(); ++i) {
        layer_sums sums = sums_of(options.method, i, cells);
        ranking ranks = rank_layer(options.method, {n_kv, n_kv, 0}, i, sums, {kind, source});
        layers.push_back({std::move(sums.sum), std::move(ranks), kv_.layers()[i].k.n_head_kv});
    }
    return [layers = std::move(layers), n_kv](std::span<const cell_run> runs) {
        held_attention held;
        for (const layer & l : layers) {
            const choice chosen = choose(runs, l.ranks, l.n_head_kv, n_kv);
            held.add(l.sum, all_but(chosen.evicted, l.n_head_kv, n_kv), l.n_head_kv);
        }
        return held.mean();
    };
}

std::vector<std::vector<int32_t>> compressor::squeeze(llama_seq_id seq,
                                                      const compress_options & options,
                                                      std::span<const cell_run> runs) {
    kv_.check(seq);
    tap_.disarm();
    kv_.settle();
    const std::vector<cell> cells = kv_.cells(seq);
    const std::vector<token_kind> kind = kinds_of(cells, options.kind),
                                  source = kinds_of(cells, {});
    check_runs(runs, cells.size());

    // all: the runs' cells, ascending within each run. target: the cells of each run that stay
    // in use.
    std::vector<int32_t> all, target;
    for (const cell_run & run : runs) {
        const auto first = static_cast<std::ptrdiff_t>(all.size());
        for (int32_t c = run.first; c < run.first + run.n; ++c) {
            all.push_back(cells[c].index);
        }
        std::sort(all.begin() + first, all.end());
        target.insert(target.end(), all.begin() + first, all.begin() + first + run.n_keep);
    }
    const auto n_kv = static_cast<int32_t>(cells.size());
    const std::vector<token_kind> kind_of_cell = by_cell(kind, cells);
    const std::vector<kv_layer> layers = kv_.layers(seq);
    std::vector<std::vector<int32_t>> kept;
    for (size_t i = 0; i < layers.size(); ++i) {
        const ranking ranks = rank_layer(options.method, {n_kv, n_kv, 0}, i,
                                         sums_of(options.method, i, cells), {kind, source});
        choice chosen = choose(runs, ranks, layers[i].k.n_head_kv, n_kv);
        const std::vector<int32_t> from = to_cells(chosen.kept, cells);
        merge_layer(layers[i], options,
                    {from, to_cells(chosen.evicted, cells), target, kind_of_cell});
        if (observed_) {
            tap_.move(i, cells.front().stream, from, target, all);
        }
        kept.push_back(std::move(chosen.kept));
    }
    squeeze_peak_ = std::max(squeeze_peak_, runners_.peak_bytes() + cpu_.peak_bytes());
    runners_.clear();
    size_t at = 0;
    for (const cell_run & run : runs) {
        kv_.shrink(seq, std::span(all).subspan(at, run.n), static_cast<size_t>(run.n_keep));
        at += static_cast<size_t>(run.n);
    }
    return kept;
}

} // namespace lookm
