#pragma once

#include "lookm/graph/cpu_attention_node.h"
#include "lookm/graph/cpu_attention_rows.h"
#include "lookm/graph/cpu_vector.h"

#include "ggml-cpu.h"
#include "ggml.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

// Attention, tile by tile of the cells, with a running maximum (Milakov and Gimelshein 2018; Dao et
// al. 2022). Logits are of base 2, and the maximum is rounded up to a whole number: so where it
// changes, sums are multiplied by a power of two, and none of their bits depends on where tiles
// begin and how many hidden cells are between those that are seen. As in cpu_vector.h, everything
// has internal linkage.
namespace lookm::attention {

namespace {

using simd::floats;
using simd::ints;
using simd::load;
using simd::n_lanes;
using simd::splat;
using simd::store;
using simd::transpose;

constexpr float hidden_cell = -std::numeric_limits<float>::infinity();
constexpr float nothing_seen = -0x1p21f; // a shift below that of any logit

// A part of a node's work: queries first to first + n of the heads head to head + n_group, which
// have the same keys and values, and cells cell to cell_end. Its columns are pairs of a query and a
// head, all queries of the first head before those of the next; it consists of `n_blocks` blocks of
// columns, from first_block on.
struct task {
    int64_t first, n, head, n_group, sequence;
    int64_t first_block, n_blocks;
    int64_t cell, cell_end;
};

// What attention to some cells gives a query of a head: sums of values weighted with
// 2^(logit - shift), and the sum of these weights.
struct weighted_sum {
    float * values; // [d_v]
    float shift, total;
};

constexpr float log2_e = 1.44269504088896341f; // a logit of base 2 is that of base e times this

// x rounded up to a whole number; |x| < 2^22, or infinite
floats rounded_up(floats x) {
    const floats magic = splat(0x1.8p23f);
    const floats nearest = (x + magic) - magic;
    return simd::select(simd::greater(x, nearest), nearest + splat(1.0f), nearest);
}

void scale(float * x, int64_t n, float by) {
    for (int64_t i = 0; i < n; i += n_lanes) {
        store(x + i, splat(by) * load(x + i));
    }
}

bool any(ints where) {
    int32_t lanes[n_lanes];
    store(lanes, where);
    return std::any_of(lanes, lanes + n_lanes, [](int32_t lane) { return lane != 0; });
}

// What the mask says of a tile.
enum class seen { nothing, all, some };

// Computes tasks. Matrices have a row for each cell, or for each number of a head, and a column for
// each pair of a query and a head, in blocks of products::width columns.
template <class products>
class tiles {
  public:
    static constexpr int64_t width = products::width;
    static constexpr int64_t n_cells = products::n_cells;
    static constexpr int64_t n_blocks_most = width == 1 ? 512 : 16; // of a task

    // scratch: n_floats() of the tasks
    tiles(const attention_node & node, float * scratch)
        : node_(node), d_k_(node.k->ne[0]), d_v_(node.v->ne[0]), keys_(scratch),
          values_(keys_ + n_cells * d_k_), spare_(values_ + n_cells * d_v_),
          mask_(spare_ + n_spare(d_k_, d_v_)), blocks_(mask_ + n_cells * width) {
        products_.begin();
    }
    ~tiles() { products_.end(); }
    tiles(const tiles &) = delete;
    tiles & operator=(const tiles &) = delete;

    static int64_t n_floats(int64_t d_k, int64_t d_v, int64_t n_blocks) {
        return n_cells * (d_k + d_v) + n_spare(d_k, d_v) + n_cells * width +
               n_blocks * width * (d_k + d_v);
    }

    // put(query, head, weighted_sum) is called once for each column.
    template <class Put>
    void compute(const task & what, Put put) {
        task_ = what;
        for (int64_t b = 0; b < task_.n_blocks; ++b) {
            begin_block(block_of(b));
        }
        const bool has_one_mask = node_.has_one_mask() && task_.n == width;
        for (int64_t cell = task_.cell; cell < task_.cell_end; cell += n_cells) {
            const int64_t n_here = std::min(n_cells, task_.cell_end - cell);
            bool has_cells = false;
            seen what_is = seen::nothing;
            for (int64_t b = 0; b < task_.n_blocks; ++b) {
                const block to = block_of(b);
                if (b == 0 || !has_one_mask) {
                    what_is = read_mask(to, cell, n_here);
                }
                if (what_is == seen::nothing) {
                    continue;
                }
                if (!has_cells) {
                    read_cells(cell, n_here);
                    has_cells = true;
                }
                add_tile(to, what_is);
            }
        }
        for (int64_t b = 0; b < task_.n_blocks; ++b) {
            finish(block_of(b), put);
        }
    }

  private:
    struct block {
        int64_t first, n, n_wide; // columns; n_wide: in whole vectors
        float *queries, *sums;    // [d_k][width], [d_v][width]
        float *shift, *total;     // [width]
    };

    // Logits, or so many rows of queries, keys, values or masks as a vector has lanes
    static int64_t n_spare(int64_t d_k, int64_t d_v) {
        return std::max(n_cells * width, n_lanes * std::max({d_k, d_v, n_cells}));
    }

    block block_of(int64_t b) {
        const int64_t first = (task_.first_block + b) * width;
        const int64_t n = std::min(width, task_.n * task_.n_group - first);
        float * const queries = blocks_ + b * width * (d_k_ + d_v_);
        return {first,
                n,
                (n + n_lanes - 1) / n_lanes * n_lanes,
                queries,
                queries + width * d_k_,
                shift_[b],
                total_[b]};
    }
    int64_t query_of(int64_t column) const { return task_.first + column % task_.n; }
    int64_t head_of(int64_t column) const { return task_.head + column / task_.n; }

    void begin_block(const block & to) {
        std::fill_n(to.sums, width * d_v_, 0.0f);
        std::fill_n(to.shift, width, nothing_seen);
        std::fill_n(to.total, width, 0.0f);
        if constexpr (width == 1) {
            read_query(to.first, to.queries);
        } else {
            for (int64_t c0 = 0; c0 < width; c0 += n_lanes) {
                std::fill_n(spare_, n_lanes * d_k_, 0.0f);
                for (int64_t c = c0; c < std::min(to.n, c0 + n_lanes); ++c) {
                    read_query(to.first + c, spare_ + (c - c0) * d_k_);
                }
                transpose(spare_, d_k_, d_k_, to.queries + c0, width);
            }
        }
        scale(to.queries, width * d_k_,
              node_.softcap == 0.0f ? node_.factor * log2_e : node_.factor);
        products::put_columns(to.queries, d_k_);
    }

    void read_query(int64_t column, float * out) const {
        std::memcpy(out, row_of(node_.q, query_of(column), head_of(column), task_.sequence),
                    d_k_ * sizeof(float));
    }

    seen read_mask(const block & of, int64_t cell, int64_t n_here) {
        if (!node_.mask && n_here == n_cells) {
            return seen::all;
        }
        const auto row_of_mask = [&](int64_t c) {
            const int64_t column = of.first + c;
            return node_.mask_row(query_of(column), head_of(column), task_.sequence) + cell;
        };
        constexpr uint16_t least = 0xfc00; // -inf
        uint16_t hidden = 0, shown = 0;    // 0 if all cells are
        for (int64_t c = 0; node_.mask && c < of.n; ++c) {
            const ggml_fp16_t * row = row_of_mask(c);
            for (int64_t i = 0; i < n_here; ++i) {
                hidden = static_cast<uint16_t>(hidden | (row[i] ^ least));
                shown = static_cast<uint16_t>(shown | row[i]);
            }
        }
        if (node_.mask && hidden == 0) {
            return seen::nothing;
        }
        if (shown == 0 && n_here == n_cells) {
            return seen::all;
        }
        const auto read = [&](int64_t c, float * out) {
            std::fill_n(out, n_here, 0.0f);
            if (node_.mask && c < of.n) {
                ggml_cpu_fp16_to_fp32(row_of_mask(c), out, n_here);
                scale(out, n_cells, node_.slope(head_of(of.first + c)) * log2_e);
            }
            std::fill(out + n_here, out + n_cells, hidden_cell);
        };
        if constexpr (width == 1) {
            read(0, mask_);
        } else {
            for (int64_t c0 = 0; c0 < of.n_wide; c0 += n_lanes) {
                for (int64_t c = c0; c < c0 + n_lanes; ++c) {
                    read(c, spare_ + (c - c0) * n_cells);
                }
                transpose(spare_, n_cells, n_cells, mask_ + c0, width);
            }
        }
        return seen::some;
    }

    void read_cells(int64_t cell, int64_t n_here) {
        for (int64_t c = 0; c < n_cells; c += n_lanes) {
            float * rows = products::rows_at(keys_, c, d_k_, spare_);
            read_rows(node_.k, cell + c, n_here - c, rows);
            products::put_keys(rows, c, d_k_, keys_);
            rows = products::rows_at(values_, c, d_v_, spare_);
            read_rows(node_.v, cell + c, n_here - c, rows);
            products::put_values(rows, c, d_v_, values_);
        }
    }

    // n_lanes rows; those from n on are 0
    void read_rows(const ggml_tensor * t, int64_t first, int64_t n, float * out) const {
        const int64_t head = task_.head / (node_.q->ne[2] / t->ne[2]);
        const int64_t sequence = task_.sequence / (node_.q->ne[3] / t->ne[3]);
        const int64_t n_bytes = static_cast<int64_t>(ggml_row_size(t->type, t->ne[0]));
        for (int64_t r = 0; r < n_lanes; ++r, out += t->ne[0]) {
            if (r < n) {
                const char * row = row_of(t, first + r, head, sequence);
#ifdef __GNUC__
                for (int64_t b = 0; b < n_bytes; b += 64) { // of the next tile
                    __builtin_prefetch(row + n_cells * t->nb[1] + b);
                }
#endif
                read_row(t->type, row, t->ne[0], out);
            } else {
                std::fill_n(out, t->ne[0], 0.0f);
            }
        }
    }

    void add_tile(const block & to, seen what) {
        float * const logits = spare_;
        products::multiply_keys(keys_, d_k_, to.queries, logits, to.n_wide);
        if (node_.softcap != 0.0f) {
            for (int64_t i = 0; i < n_cells * width; i += n_lanes) {
                store(logits + i, splat(node_.softcap * log2_e) * simd::tanh(load(logits + i)));
            }
        }
        if (what == seen::some) {
            for (int64_t i = 0; i < n_cells * width; i += n_lanes) {
                store(logits + i, load(logits + i) + load(mask_ + i));
            }
        }
        if constexpr (width == 1) {
            weigh_column(to, logits);
        } else {
            for (int64_t c = 0; c < to.n_wide; c += n_lanes) {
                weigh_lanes(to, logits + c, c);
            }
        }
        products::put_columns(logits, n_cells);
        products::add_values(values_, d_v_, logits, to.sums, to.n_wide);
    }

    // Logits of n_lanes columns become 2^(logit - shift).
    void weigh_lanes(const block & to, float * logits, int64_t column) {
        floats most = load(logits);
        for (int64_t c = 1; c < n_cells; ++c) {
            most = simd::larger(load(logits + c * width), most);
        }
        const floats before = load(to.shift + column);
        floats shift = before;
        floats total = load(to.total + column);
        if (any(simd::greater(most, before))) {
            shift = simd::larger(rounded_up(most), before);
            const floats less = simd::exp2(before, shift);
            for (int64_t e = 0; e < d_v_; ++e) {
                float * const sum = to.sums + e * width + column;
                store(sum, less * load(sum));
            }
            total *= less;
            store(to.shift + column, shift);
        }
        for (int64_t c = 0; c < n_cells; ++c) {
            float * const at = logits + c * width;
            const floats p = simd::exp2(load(at), shift);
            store(at, p);
            total += p;
        }
        store(to.total + column, total);
    }

    // Those of a single column do.
    void weigh_column(const block & to, float * logits) {
        floats most = load(logits);
        for (int64_t c = n_lanes; c < n_cells; c += n_lanes) {
            most = simd::larger(load(logits + c), most);
        }
        float lanes[n_lanes];
        store(lanes, most);
        const float largest = *std::max_element(lanes, lanes + n_lanes);
        if (largest > *to.shift) {
            const float shift = std::ceil(largest);
            const float less = std::exp2(*to.shift - shift);
            scale(to.sums, d_v_, less);
            *to.total *= less;
            *to.shift = shift;
        }
        for (int64_t c = 0; c < n_cells; c += n_lanes) {
            store(logits + c, simd::exp2(load(logits + c), splat(*to.shift)));
        }
        for (int64_t c = 0; c < n_cells; ++c) { // in this order, so hidden cells change no bit
            *to.total += logits[c];
        }
    }

    template <class Put>
    void finish(const block & of, Put put) {
        if constexpr (width == 1) {
            put(query_of(of.first), head_of(of.first), weighted_sum{of.sums, *of.shift, *of.total});
            return;
        }
        for (int64_t c0 = 0; c0 < of.n; c0 += n_lanes) {
            for (int64_t e = 0; e < d_v_; e += n_lanes) {
                transpose(of.sums + e * width + c0, width, n_lanes, spare_ + e, d_v_);
            }
            for (int64_t c = c0; c < std::min(of.n, c0 + n_lanes); ++c) {
                put(query_of(of.first + c), head_of(of.first + c),
                    weighted_sum{spare_ + (c - c0) * d_v_, of.shift[c], of.total[c]});
            }
        }
    }

    const attention_node & node_;
    int64_t d_k_, d_v_;
    task task_ = {};
    products products_;
    float *keys_, *values_, *spare_, *mask_, *blocks_;
    alignas(64) float shift_[n_blocks_most][width], total_[n_blocks_most][width];
};

} // namespace

} // namespace lookm::attention
