#include "lookm/graph/cpu_stages.h"
#include "lookm/graph/cpu_tiles.h"
#include "lookm/graph/kv_rows.h"
#include "lookm/graph/score_forms.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

namespace lookm {

namespace {

// Whether a query sees the 16 cells of a panel: none, all, or as the mask says.
enum class sight : uint8_t { hidden, all, by_mask };

constexpr size_t packed_bytes = size_t(4) << 20; // limit for keys packed at a time, of >= 1 head
constexpr int64_t n_at_once = 8;                 // panels that one task packs
// Number of tasks; independent of the number of threads, so that sums are the same for any number
constexpr int64_t n_units = 64;

// One call of add_scores, KV heads [h0, h0 + n_h) at a time. A row is a pair (query, query head of
// the group), ordered so that the rows of a block have few queries and see nearly the same cells.
struct scoring {
    const attention & a;
    const score_sums & out;
    int64_t d = a.k->ne[0], n_kv = a.k->ne[1], n_tokens = a.q->ne[1];
    int64_t n_group = a.q->ne[2] / a.k->ne[2];
    int64_t n_panels = (n_kv + n_panel - 1) / n_panel;
    int64_t n_rows = n_tokens * n_group;
    int64_t n_blocks = (n_rows + n_block - 1) / n_block;
    int64_t n_columns = n_panels * n_panel * (out.squares ? 2 : 1); // sums, then squares
    int64_t n_h, n_slices;
    std::unique_ptr<sight[]> seen;    // [n_tokens, n_panels]
    std::unique_ptr<float[]> packed;  // [n_h, n_panels][d][16]
    std::unique_ptr<float[]> partial; // [n_h, n_slices, n_columns] sums of each slice

    scoring(const attention & attn, const score_sums & sums, size_t compute_bytes)
        : a(attn), out(sums) {
        const auto n_floats =
            static_cast<int64_t>(compute_bytes / sizeof(float)) / 4; // of each of the two
        const int64_t n_pack = std::min<int64_t>(packed_bytes / sizeof(float), n_floats);
        n_h = std::clamp<int64_t>(n_pack / (n_panels * n_panel * d), 1, a.k->ne[2]);
        n_slices = std::clamp<int64_t>(std::min(n_units, n_floats / n_columns) / n_h, 1, n_blocks);
    }

    void allocate() {
        seen.reset(new sight[n_tokens * n_panels]);
        packed.reset(new float[n_h * n_panels * n_panel * d]);
        partial.reset(new float[n_h * n_slices * n_columns]);
    }

    size_t shared_bytes() const {
        return n_tokens * n_panels +
               n_h * (n_panels * n_panel * d + n_slices * n_columns) * sizeof(float);
    }

    // Writes the mask of query i for the 16 cells of panel p; cells past the end are hidden.
    void mask_of(int64_t i, int64_t p, float * mask) const {
        const int64_t n = std::min(n_panel, n_kv - p * n_panel);
        const char * row = static_cast<const char *>(a.mask->data) + i * a.mask->nb[1];
        to_floats(a.mask->type, row + p * n_panel * a.mask->nb[0], mask, n);
        std::fill(mask + n, mask + n_panel, -INFINITY);
    }

    void look(int64_t i) const {
        float mask[n_panel];
        for (int64_t p = 0; p < n_panels; ++p) {
            mask_of(i, p, mask);
            const auto n_hidden = std::count(mask, mask + n_panel, -INFINITY);
            const auto n_plain = std::count(mask, mask + n_panel, 0.0f);
            seen[i * n_panels + p] = n_hidden == n_panel  ? sight::hidden
                                     : n_plain == n_panel ? sight::all
                                                          : sight::by_mask;
        }
    }

    // Packs panels [p0, p0 + n_at_once) of KV head h, which is number h - h0 of this pass.
    void pack_keys(int64_t h0, int64_t h, int64_t p0, float * rows) const {
        const char * head = static_cast<const char *>(a.k->data) + h * a.k->nb[2];
        const size_t n_bytes = ggml_row_size(a.k->type, d);
        for (int64_t p = p0; p < std::min(p0 + n_at_once, n_panels); ++p) {
            const int64_t n = std::min(n_panel, n_kv - p * n_panel);
            for (int64_t c = p * n_panel; c < p * n_panel + n; ++c) {
                prefetch(head + std::min(c + n_panel, n_kv - 1) * a.k->nb[1], n_bytes);
                to_floats(a.k->type, head + c * a.k->nb[1], rows + (c - p * n_panel) * d, d);
            }
            lookm_products().pack_panel(rows, n, d,
                                        packed.get() + ((h - h0) * n_panels + p) * n_panel * d);
        }
    }

    void hide(float * row, int64_t i, int64_t p) const {
        const sight how = seen[i * n_panels + p];
        if (how == sight::hidden) {
            std::fill(row, row + n_panel, -INFINITY);
        } else if (how == sight::by_mask) {
            float mask[n_panel];
            mask_of(i, p, mask);
            for (int64_t c = 0; c < n_panel; ++c) { // an unused cell may hold anything, even NaN
                row[c] = mask[c] == -INFINITY ? -INFINITY : row[c] + mask[c];
            }
        }
    }
};

// The scores of rows [r0, r0 + n) of KV head h, over all cells that any of them sees.
struct block_of_rows {
    const scoring & s;
    int64_t h, r0, n;
    int64_t n_whole = lookm_products().whole_rows(n);
    float *tiles, *rows, *block; // the thread's scratch: [n_panels][24][16], [24, d], [24, d]
    alignas(64) float most[n_tile], sums[n_tile];
    float shift[n_block], weight[n_block], weight_squared[n_block];
    // Panels that at least one row sees, and whether all rows see all of it. With a causal mask,
    // that is true for all panels except those at the diagonal.
    struct seen_panel {
        int32_t panel;
        bool whole;
    };
    std::vector<seen_panel> panels;

    block_of_rows(const scoring & of, int64_t head, int64_t row0, int64_t n_rows, float * scratch)
        : s(of), h(head), r0(row0), n(n_rows), tiles(scratch), rows(tiles + s.n_panels * n_tile),
          block(rows + n_block * s.d) {
        const sight * first = s.seen.get() + r0 / s.n_group * s.n_panels;
        const sight * last = s.seen.get() + (r0 + n - 1) / s.n_group * s.n_panels;
        for (int32_t p = 0; p < s.n_panels; ++p) {
            bool any = false, whole = true;
            for (const sight * i = first; i <= last; i += s.n_panels) {
                any = any || i[p] != sight::hidden;
                whole = whole && i[p] == sight::all;
            }
            if (any) {
                panels.push_back({p, whole});
            }
        }
    }

    static size_t n_scratch(const scoring & s) { return s.n_panels * n_tile + 2 * n_block * s.d; }

    void pack_queries() {
        const float scale = s.a.scale;
        for (int64_t r = 0; r < n; ++r) {
            const int64_t i = (r0 + r) / s.n_group;
            const int64_t head = h * s.n_group + (r0 + r) % s.n_group;
            const char * q =
                static_cast<const char *>(s.a.q->data) + i * s.a.q->nb[1] + head * s.a.q->nb[2];
            std::memcpy(rows + r * s.d, q, s.d * sizeof(float));
            std::for_each_n(rows + r * s.d, s.d, [&](float & x) { x *= scale; });
        }
        lookm_products().pack_block(rows, n, s.d, block);
    }

    void multiply_and_mask(const float * keys) {
        std::fill(most, most + n_tile, -INFINITY);
        for (size_t t = 0; t < panels.size(); ++t) {
            float * tile = tiles + t * n_tile;
            lookm_products().multiply(block, n, keys + panels[t].panel * n_panel * s.d, s.d, tile);
            if (s.a.softcap != 0.0f) {
                lookm_tiles().cap_tile(tile, n_whole, s.a.softcap);
            }
            for (int64_t r = 0; r < n && !panels[t].whole; ++r) {
                s.hide(tile + r * n_panel, (r0 + r) / s.n_group, panels[t].panel);
            }
            lookm_tiles().raise_most(tile, n_whole, most);
        }
    }

    float sink(int64_t r) const {
        return s.a.sinks ? static_cast<const float *>(
                               s.a.sinks->data)[h * s.n_group + (r0 + r) % s.n_group]
                         : -INFINITY;
    }

    void soft_max_columns(float * columns) {
        std::fill(sums, sums + n_tile, 0.0f);
        for (int64_t r = 0; r < n_whole; ++r) {
            shift[r] = *std::max_element(most + r * n_panel, most + (r + 1) * n_panel);
            shift[r] = r < n ? std::max(shift[r], sink(r)) : shift[r];
            shift[r] = shift[r] == -INFINITY ? 0.0f : shift[r]; // a query that sees nothing
        }
        for (size_t t = 0; t < panels.size(); ++t) {
            lookm_tiles().exp_tile(tiles + t * n_tile, n_whole, shift, sums);
        }
        for (int64_t r = 0; r < n_whole; ++r) {
            double sum = r < n ? std::exp(sink(r) - shift[r]) : 0.0;
            for (int64_t c = 0; c < n_panel; ++c) {
                sum += sums[r * n_panel + c];
            }
            const auto n_group = static_cast<double>(s.n_group);
            weight[r] = r < n && sum > 0 ? static_cast<float>(1.0 / (sum * n_group)) : 0.0f;
            weight_squared[r] =
                r < n && sum > 0 ? static_cast<float>(1.0 / (sum * sum * n_group)) : 0.0f;
        }
        float * squares = columns + s.n_panels * n_panel;
        for (size_t t = 0; t < panels.size(); ++t) {
            lookm_tiles().add_columns(tiles + t * n_tile, n_whole, weight,
                                      columns + panels[t].panel * n_panel);
            if (s.out.squares) {
                lookm_tiles().add_squared_columns(tiles + t * n_tile, n_whole, weight_squared,
                                                  squares + panels[t].panel * n_panel);
            }
        }
    }
};

void score_slice(const scoring & s, int64_t h0, int64_t unit, float * scratch) {
    const int64_t h = unit / s.n_slices;
    const int64_t slice = unit % s.n_slices;
    float * columns = s.partial.get() + unit * s.n_columns;
    std::fill(columns, columns + s.n_columns, 0.0f);
    for (int64_t b = slice * s.n_blocks / s.n_slices; b < (slice + 1) * s.n_blocks / s.n_slices;
         ++b) {
        block_of_rows rows(s, h0 + h, b * n_block, std::min(n_block, s.n_rows - b * n_block),
                           scratch);
        rows.pack_queries();
        rows.multiply_and_mask(s.packed.get() + h * s.n_panels * n_panel * s.d);
        rows.soft_max_columns(columns);
    }
}

float * row_of(const ggml_tensor * t, int64_t i) {
    return reinterpret_cast<float *>(static_cast<char *>(t->data) + i * t->nb[1]);
}

void add_slices(const scoring & s, int64_t h0, int64_t h) {
    for (int64_t slice = 0; slice < s.n_slices; ++slice) {
        const float * columns = s.partial.get() + (h * s.n_slices + slice) * s.n_columns;
        lookm_tiles().add_row(columns, s.n_kv, 1.0f, row_of(s.out.sum, h0 + h));
        if (s.out.squares) {
            lookm_tiles().add_row(columns + s.n_panels * n_panel, s.n_kv, 1.0f,
                                  row_of(s.out.squares, h0 + h));
        }
    }
}

} // namespace

size_t score_bytes_on_host(const graph_runner & runner, const attention & attn,
                           const score_sums & out) {
    const scoring s(attn, out, runner.compute_bytes());
    return s.shared_bytes() + block_of_rows::n_scratch(s) * sizeof(float);
}

void add_scores_on_host(graph_runner & runner, const attention & attn, const score_sums & out) {
    scoring s(attn, out, runner.compute_bytes());
    s.allocate();
    std::vector<cpu_stage> stages;
    stages.push_back({s.n_tokens, 1, [&s](int64_t i, float *) { s.look(i); }});
    for (int64_t h0 = 0; h0 < attn.k->ne[2]; h0 += s.n_h) {
        const int64_t n_h = std::min(s.n_h, attn.k->ne[2] - h0);
        const int64_t n_runs = (s.n_panels + n_at_once - 1) / n_at_once;
        stages.push_back({n_h * n_runs, static_cast<size_t>(n_panel * s.d),
                          [&s, h0, n_runs](int64_t t, float * rows) {
                              s.pack_keys(h0, h0 + t / n_runs, t % n_runs * n_at_once, rows);
                          }});
        stages.push_back(
            {n_h * s.n_slices, block_of_rows::n_scratch(s),
             [&s, h0](int64_t unit, float * scratch) { score_slice(s, h0, unit, scratch); }});
        stages.push_back({n_h, 1, [&s, h0](int64_t h, float *) { add_slices(s, h0, h); }});
    }
    run_stages(runner, stages, s.shared_bytes());
}

} // namespace lookm
