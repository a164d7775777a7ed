#include "lookm/graph/match_host.h"

#include "lookm/graph/cpu_stages.h"
#include "lookm/graph/cpu_tiles.h"
#include "lookm/graph/row_blocks.h"

#include <algorithm>
#include <cmath>
#include <memory>

namespace lookm {

namespace {

constexpr size_t packed_bytes = size_t(4)
                                << 20; // limit for kept rows packed at a time, of >= 1 head
constexpr int64_t n_units = 64;        // number of tasks

float length_of(const float * row, int64_t d) {
    // not 0, so that dividing a zero row by it gives zeros
    return std::max(static_cast<float>(std::sqrt(lookm_tiles().sum_of_squares(row, d))), 1e-12f);
}

// Matches one layer, heads [h0, h0 + n_h) at a time.
struct matching {
    const kv_rows & k;
    std::span<const int32_t> kept, evicted;
    std::span<const token_kind> kind;
    matches & out;
    int64_t d = k.head_dim;
    int64_t n_keep = static_cast<int64_t>(kept.size()) / k.n_head_kv;
    int64_t n_evict = static_cast<int64_t>(evicted.size()) / k.n_head_kv;
    int64_t n_panels = (n_keep + n_panel - 1) / n_panel;
    int64_t n_blocks = (n_evict + n_block - 1) / n_block;
    int64_t n_h = 0, n_slices = 0;
    std::unique_ptr<float[]> packed; // [n_h, n_panels][d][16] unit rows

    matching(const kv_rows & keys, const match_task & task, matches & found, size_t compute_bytes)
        : k(keys), kept(task.kept), evicted(task.evicted), kind(task.kind), out(found) {
        const auto n_floats =
            static_cast<int64_t>(std::min(packed_bytes, compute_bytes / 2) / sizeof(float));
        n_h = std::clamp<int64_t>(n_floats / (n_panels * n_panel * d), 1, k.n_head_kv);
        n_slices = std::clamp<int64_t>(n_units / n_h, 1, std::max<int64_t>(1, n_blocks));
        packed.reset(new float[n_h * n_panels * n_panel * d]);
    }

    size_t shared_bytes() const { return n_h * n_panels * n_panel * d * sizeof(float); }

    // floats of one thread: tile and best [24][16]; rows and block [24, d]
    size_t n_scratch() const { return 2 * n_tile + 2 * n_block * d; }

    void pack_kept(int64_t h, int64_t p, float * panel, float * rows) const {
        const int64_t n = std::min(n_panel, n_keep - p * n_panel);
        read_rows(k, h, kept.subspan(h * n_keep + p * n_panel, n), rows);
        for (int64_t c = 0; c < n; ++c) {
            float * row = rows + c * d;
            const float length = length_of(row, d);
            std::for_each_n(row, d, [&](float & x) { x /= length; });
        }
        lookm_products().pack_panel(rows, n, d, panel);
    }

    // Makes kept rows of another kind than the evicted row's lose every comparison.
    void hide_other_kinds(const int32_t * evicted_cells, int64_t n, const int32_t * cells,
                          int64_t n_cells, float * tile) const {
        for (int64_t r = 0; r < n; ++r) {
            for (int64_t c = 0; c < n_cells; ++c) {
                if (kind[evicted_cells[r]] != kind[cells[c]]) {
                    tile[r * n_panel + c] = -INFINITY;
                }
            }
        }
    }

    // The length of an evicted row does not change which kept row is the most similar, so evicted
    // rows are normalised for the weight only.
    void find(int64_t h, int64_t e0, const float * block, int64_t n, const float * panels,
              float * tile, float * best, int32_t * at) const {
        const int64_t n_whole = lookm_products().whole_rows(n);
        std::fill(best, best + n_tile, -INFINITY);
        std::fill(at, at + n_tile, 0);
        for (int32_t p = 0; p < n_panels; ++p) {
            lookm_products().multiply(block, n, panels + p * n_panel * d, d, tile);
            const int64_t n_cells = std::min(n_panel, n_keep - p * n_panel);
            for (int64_t r = 0; n_cells < n_panel && r < n; ++r) {
                std::fill(tile + r * n_panel + n_cells, tile + (r + 1) * n_panel, -INFINITY);
            }
            if (!kind.empty()) {
                hide_other_kinds(evicted.data() + e0, n, kept.data() + h * n_keep + p * n_panel,
                                 n_cells, tile);
            }
            lookm_tiles().keep_best(tile, n_whole, p, best, at);
        }
    }

    void settle(int64_t i, const float * row, const float * best, const int32_t * at) const {
        int64_t lane = 0;
        for (int64_t c = 1; c < n_panel; ++c) {
            if (best[c] > best[lane] || (best[c] == best[lane] && at[c] < at[lane])) {
                lane = c;
            }
        }
        out.pivot[i] = static_cast<int32_t>(at[lane] * n_panel + lane);
        if (!out.weight.empty()) { // a key with infinities or NaN matches nothing
            out.weight[i] = std::isfinite(best[lane]) ? best[lane] / length_of(row, d) : 0.0f;
        }
    }

    void match_slice(int64_t h0, int64_t unit, float * scratch) const {
        const int64_t h = unit / n_slices;
        const int64_t slice = unit % n_slices;
        float *tile = scratch, *best = tile + n_tile, *rows = best + n_tile,
              *block = rows + n_block * d;
        int32_t at[n_tile];
        for (int64_t b = slice * n_blocks / n_slices; b < (slice + 1) * n_blocks / n_slices; ++b) {
            const int64_t e0 = (h0 + h) * n_evict + b * n_block;
            const int64_t n = std::min(n_block, n_evict - b * n_block);
            read_rows(k, h0 + h, evicted.subspan(e0, n), rows);
            lookm_products().pack_block(rows, n, d, block);
            find(h0 + h, e0, block, n, packed.get() + h * n_panels * n_panel * d, tile, best, at);
            for (int64_t r = 0; r < n; ++r) {
                settle(e0 + r, rows + r * d, best + r * n_panel, at + r * n_panel);
            }
        }
    }
};

} // namespace

matches match_on_host(graph_runner & runner, const kv_rows & k, const match_task & task) {
    matches found;
    found.pivot.resize(task.evicted.size());
    found.weight.resize(task.with_weight ? task.evicted.size() : 0);
    const matching m(k, task, found, runner.compute_bytes());
    std::vector<cpu_stage> stages;
    for (int64_t h0 = 0; h0 < k.n_head_kv; h0 += m.n_h) {
        const int64_t n_h = std::min(m.n_h, k.n_head_kv - h0);
        stages.push_back({n_h * m.n_panels, static_cast<size_t>(n_panel * m.d),
                          [&m, h0](int64_t t, float * rows) {
                              float * panel = m.packed.get() + t * n_panel * m.d;
                              m.pack_kept(h0 + t / m.n_panels, t % m.n_panels, panel, rows);
                          }});
        stages.push_back({n_h * m.n_slices, m.n_scratch(), [&m, h0](int64_t unit, float * scratch) {
                              m.match_slice(h0, unit, scratch);
                          }});
    }
    run_stages(runner, stages, m.shared_bytes());
    if (!task.kind.empty()) {
        drop_unmatched(found, task, k.n_head_kv);
    }
    return found;
}

} // namespace lookm
