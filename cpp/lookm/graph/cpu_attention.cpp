#include "lookm/graph/cpu_attention.h"

#include "lookm/graph/cpu_attention_amx.h"
#include "lookm/graph/cpu_attention_floats.h"
#include "lookm/graph/cpu_vector.h"

#include "ggml-cpu-impl.h"
#include "ggml-cpu.h"
#include "ggml.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>

// llama.cpp's own (ops.h)
extern "C" void ggml_compute_forward_flash_attn_ext(const ggml_compute_params * params,
                                                    ggml_tensor * dst);

namespace lookm {

namespace {

using attention::float_products;
using attention::n_cells;
using attention::n_queries;
using simd::floats;
using simd::ints;
using simd::load;
using simd::n_lanes;
using simd::splat;
using simd::store;

constexpr float none = -std::numeric_limits<float>::infinity();

// From so many queries on, a batch is read here, whatever it is of.
constexpr int64_t n_queries_of_any = 64;
// From so many on if it is of one sequence, such as a question's. Single tokens of as many answers
// are left to ggml, as the single token of one answer is, so none depends on the others.
constexpr int64_t n_queries_of_one = 16;
constexpr int64_t n_heads_most = 16; // of a group that one thread computes together
constexpr int64_t n_spare = n_cells * n_queries;
constexpr int64_t head_dim_most = n_spare / n_lanes; // so many rows are spare at once

// One row of K or V as floats. As to_floats() of kv_rows.h, which ggml's library cannot call: that
// is linked before it.
void read_row(ggml_type type, const char * row, int64_t n, float * out) {
    if (type == GGML_TYPE_F16) {
        ggml_cpu_fp16_to_fp32(reinterpret_cast<const ggml_fp16_t *>(row), out, n);
    } else if (type == GGML_TYPE_F32) {
        std::memcpy(out, row, n * sizeof(float));
    } else {
        ggml_get_type_traits(type)->to_float(row, out, n);
    }
}

// out[e * out_stride + r] = rows[r * stride + e] for r < n_lanes, e < n
void transpose(const float * rows, int64_t stride, int64_t n, float * out, int64_t out_stride) {
#ifdef LOOKM_SHUFFLES
    for (int64_t e = 0; e < n; e += n_lanes) {
        simd::transpose_square(rows + e, stride, out + e * out_stride, out_stride);
    }
#else
    for (int64_t r = 0; r < n_lanes; ++r) {
        for (int64_t e = 0; e < n; ++e) {
            out[e * out_stride + r] = rows[r * stride + e];
        }
    }
#endif
}

bool any(ints where) {
    int32_t lanes[n_lanes];
    store(lanes, where);
    return std::any_of(lanes, lanes + n_lanes, [](int32_t lane) { return lane != 0; });
}

// What the mask says of a tile.
enum class seen { nothing, all, some };

// The node's tensors, and what is the same for all of its tiles.
struct attention_node {
    explicit attention_node(const ggml_tensor * dst)
        : q(dst->src[0]), k(dst->src[1]), v(dst->src[2]), mask(dst->src[3]), sinks(dst->src[4]) {
        float params[3];
        std::memcpy(params, dst->op_params, sizeof(params));
        softcap = params[2];
        factor = softcap == 0.0f ? params[0] : params[0] / softcap;
        max_bias = params[1];
    }

    // ALiBi's, 1 without it
    float slope(int64_t head) const {
        if (max_bias <= 0.0f) {
            return 1.0f;
        }
        const auto n = static_cast<float>(int64_t(1) << static_cast<int>(std::log2(q->ne[2])));
        const auto h = static_cast<float>(head);
        return h < n ? std::pow(std::pow(2.0f, -max_bias / n), h + 1.0f)
                     : std::pow(std::pow(2.0f, -max_bias / 2.0f / n), 2.0f * (h - n) + 1.0f);
    }
    bool has_masks_of_heads() const { return mask && mask->ne[2] > 1; }
    const ggml_fp16_t * mask_row(int64_t query, int64_t head, int64_t sequence) const {
        return reinterpret_cast<const ggml_fp16_t *>(
            static_cast<const char *>(mask->data) + query * mask->nb[1] +
            head % mask->ne[2] * mask->nb[2] + sequence % mask->ne[3] * mask->nb[3]);
    }

    const ggml_tensor *q, *k, *v, *mask, *sinks;
    float factor, softcap, max_bias;
};

const char * row_of(const ggml_tensor * t, int64_t row, int64_t head, int64_t sequence) {
    return static_cast<const char *>(t->data) + row * t->nb[1] + head * t->nb[2] +
           sequence * t->nb[3];
}

// The attention of up to n_queries queries of some heads that share keys and values, tile by tile
// of the cells, with a running maximum (Milakov and Gimelshein 2018; Dao et al. 2022). Matrices
// have a row for each cell, or for each number of a head, and a column for each query.
template <class products>
class tiles {
  public:
    // scratch: n_floats() of the node
    tiles(const attention_node & node, float * scratch)
        : node_(node), d_k_(node.k->ne[0]), d_v_(node.v->ne[0]), keys_(scratch),
          values_(keys_ + n_cells * d_k_), spare_(values_ + n_cells * d_v_), mask_(spare_ + n_spare),
          heads_(mask_ + n_cells * n_queries) {
        products_.begin();
    }
    ~tiles() { products_.end(); }
    tiles(const tiles &) = delete;
    tiles & operator=(const tiles &) = delete;

    static int64_t n_floats(const ggml_tensor * k, const ggml_tensor * v, int64_t n_heads) {
        return n_cells * (k->ne[0] + v->ne[0]) + n_spare + n_cells * n_queries +
               n_heads * n_queries * (k->ne[0] + v->ne[0]);
    }

    // Queries first to first + n, heads head to head + n_heads
    void compute(int64_t first, int64_t n, int64_t head, int64_t n_heads, int64_t sequence,
                 ggml_tensor * dst) {
        n_ = n;
        n_wide_ = (n + n_lanes - 1) / n_lanes * n_lanes;
        for (int64_t h = 0; h < n_heads; ++h) {
            begin_head(first, head + h, sequence, of_head(h));
        }
        for (int64_t cell = 0; cell < node_.k->ne[1]; cell += n_cells) {
            const int64_t n_here = std::min(n_cells, node_.k->ne[1] - cell);
            bool has_cells = false;
            seen what = seen::nothing;
            for (int64_t h = 0; h < n_heads; ++h) {
                if (h == 0 || node_.has_masks_of_heads()) {
                    what = read_mask(first, head + h, sequence, cell, n_here);
                }
                if (what == seen::nothing) {
                    continue;
                }
                if (!has_cells) {
                    read_cells(cell, n_here, head, sequence);
                    has_cells = true;
                }
                add_tile(of_head(h), what, node_.slope(head + h));
            }
        }
        for (int64_t h = 0; h < n_heads; ++h) {
            finish(first, head + h, sequence, of_head(h), dst);
        }
    }

  private:
    struct one_head {
        float *queries, *sums; // [d_k][n_queries], [d_v][n_queries]
        float *most, *total;   // [n_queries]
    };

    one_head of_head(int64_t h) {
        float * const at = heads_ + h * n_queries * (d_k_ + d_v_);
        return {at, at + n_queries * d_k_, most_[h], total_[h]};
    }

    void begin_head(int64_t first, int64_t head, int64_t sequence, one_head to) {
        std::fill_n(to.sums, n_queries * d_v_, 0.0f);
        std::fill_n(to.most, n_queries, none);
        std::fill_n(to.total, n_queries, 0.0f);
        for (int64_t q0 = 0; q0 < n_queries; q0 += n_lanes) {
            for (int64_t q = q0; q < q0 + n_lanes; ++q) {
                float * const row = spare_ + (q - q0) * d_k_;
                if (q < n_) {
                    std::memcpy(row, row_of(node_.q, first + q, head, sequence),
                                d_k_ * sizeof(float));
                } else {
                    std::fill_n(row, d_k_, 0.0f);
                }
            }
            transpose(spare_, d_k_, d_k_, to.queries + q0, n_queries);
        }
        for (int64_t i = 0; i < n_queries * d_k_; i += n_lanes) {
            store(to.queries + i, splat(node_.factor) * load(to.queries + i));
        }
        products::put_lanes(to.queries, d_k_);
    }

    seen read_mask(int64_t first, int64_t head, int64_t sequence, int64_t cell, int64_t n_here) {
        if (!node_.mask && n_here == n_cells) {
            return seen::all;
        }
        constexpr uint16_t least = 0xfc00; // -inf
        uint16_t hidden = 0, shown = 0;    // 0 if all cells are
        for (int64_t r = 0; node_.mask && r < n_; ++r) {
            const ggml_fp16_t * row = node_.mask_row(first + r, head, sequence) + cell;
            for (int64_t c = 0; c < n_here; ++c) {
                hidden = static_cast<uint16_t>(hidden | (row[c] ^ least));
                shown = static_cast<uint16_t>(shown | row[c]);
            }
        }
        if (node_.mask && hidden == 0) {
            return seen::nothing;
        }
        if (shown == 0 && n_here == n_cells) {
            return seen::all;
        }
        std::fill_n(spare_, n_lanes * n_cells, 0.0f);
        for (int64_t q0 = 0; q0 < n_wide_; q0 += n_lanes) {
            for (int64_t q = q0; q < q0 + n_lanes; ++q) {
                float * const row = spare_ + (q - q0) * n_cells;
                if (node_.mask && q < n_) {
                    ggml_cpu_fp16_to_fp32(node_.mask_row(first + q, head, sequence) + cell, row,
                                          n_here);
                }
                std::fill(row + n_here, row + n_cells, none);
            }
            transpose(spare_, n_cells, n_cells, mask_ + q0, n_queries);
        }
        return seen::some;
    }

    void read_cells(int64_t cell, int64_t n_here, int64_t head, int64_t sequence) {
        for (int64_t c = 0; c < n_cells; c += n_lanes) {
            float * rows = products::rows_at(keys_, c, d_k_, spare_);
            read_rows(node_.k, cell + c, n_here - c, head, sequence, rows);
            products::put_keys(rows, c, d_k_, keys_);
            rows = products::rows_at(values_, c, d_v_, spare_);
            read_rows(node_.v, cell + c, n_here - c, head, sequence, rows);
            products::put_values(rows, c, d_v_, values_);
        }
    }

    // n_lanes rows; those from n on are 0
    void read_rows(const ggml_tensor * t, int64_t first, int64_t n, int64_t head, int64_t sequence,
                   float * out) const {
        const int64_t n_group = node_.q->ne[2] / t->ne[2], n_each = node_.q->ne[3] / t->ne[3];
        for (int64_t r = 0; r < n_lanes; ++r, out += t->ne[0]) {
            if (r < n) {
                read_row(t->type, row_of(t, first + r, head / n_group, sequence / n_each),
                         t->ne[0], out);
            } else {
                std::fill_n(out, t->ne[0], 0.0f);
            }
        }
    }

    void add_tile(one_head to, seen what, float slope) {
        float * const logits = spare_;
        products_.multiply_keys(keys_, d_k_, to.queries, logits, n_wide_);
        if (node_.softcap != 0.0f) {
            for (int64_t i = 0; i < n_cells * n_queries; i += n_lanes) {
                store(logits + i, splat(node_.softcap) * simd::tanh(load(logits + i)));
            }
        }
        if (what == seen::some) {
            for (int64_t i = 0; i < n_cells * n_queries; i += n_lanes) {
                store(logits + i, load(logits + i) + splat(slope) * load(mask_ + i));
            }
        }
        for (int64_t q = 0; q < n_wide_; q += n_lanes) {
            add_lanes(to, logits + q, q);
        }
        products::put_lanes(logits, n_cells);
        products_.add_values(values_, d_v_, logits, to.sums, n_wide_);
    }

    // Logits of n_lanes queries become exp(logit - largest logit so far).
    void add_lanes(one_head to, float * logits, int64_t q) {
        const floats before = load(to.most + q);
        floats most = before;
        for (int64_t c = 0; c < n_cells; ++c) {
            most = simd::larger(load(logits + c * n_queries), most);
        }
        // of a query that has seen nothing yet, any number will do
        const floats shift = simd::select(simd::greater(most, splat(none)), most, floats{});
        floats total = load(to.total + q);
        if (any(simd::greater(most, before))) {
            const floats less = simd::exp(before - shift);
            for (int64_t e = 0; e < d_v_; ++e) {
                float * const sum = to.sums + e * n_queries + q;
                store(sum, less * load(sum));
            }
            total *= less;
            store(to.most + q, most);
        }
        for (int64_t c = 0; c < n_cells; ++c) {
            float * const at = logits + c * n_queries;
            const floats p = simd::exp(load(at) - shift);
            store(at, p);
            total += p;
        }
        store(to.total + q, total);
    }

    void finish(int64_t first, int64_t head, int64_t sequence, one_head of, ggml_tensor * dst) {
        for (int64_t q = 0; q < n_; ++q) {
            float factor = 1.0f, total = of.total[q];
            if (node_.sinks) { // as of one more cell without a value
                const float sink = static_cast<const float *>(node_.sinks->data)[head];
                const float most = std::max(of.most[q], sink);
                factor = std::exp(of.most[q] - most);
                total = total * factor + std::exp(sink - most);
            }
            of.total[q] = total > 0.0f ? factor / total : 0.0f;
        }
        for (int64_t q0 = 0; q0 < n_; q0 += n_lanes) {
            const floats factor = load(of.total + q0);
            for (int64_t e = 0; e < d_v_; e += n_lanes) {
                float square[n_lanes * n_lanes];
                for (int64_t i = 0; i < n_lanes; ++i) {
                    const float * sum = of.sums + (e + i) * n_queries + q0;
                    store(square + i * n_lanes, factor * load(sum));
                }
                transpose(square, n_lanes, n_lanes, spare_ + e, d_v_);
            }
            for (int64_t q = q0; q < std::min(n_, q0 + n_lanes); ++q) {
                const int64_t row = (sequence * dst->ne[2] + first + q) * dst->ne[1] + head;
                std::memcpy(static_cast<char *>(dst->data) + row * dst->nb[1],
                            spare_ + (q - q0) * d_v_, d_v_ * sizeof(float));
            }
        }
    }

    const attention_node & node_;
    int64_t d_k_, d_v_, n_ = 0, n_wide_ = 0; // n_wide_: n_ in whole vectors
    products products_;
    float *keys_, *values_, *spare_, *mask_, *heads_;
    alignas(64) float most_[n_heads_most][n_queries], total_[n_heads_most][n_queries];
};

bool can_read(const ggml_tensor * t) {
    return t->nb[0] == ggml_type_size(t->type) && t->ne[0] % n_lanes == 0 &&
           t->ne[0] <= head_dim_most &&
           (t->type == GGML_TYPE_F32 || ggml_get_type_traits(t->type)->to_float);
}

// For comparisons: LOOKM_ATTENTION=ggml, or floats, which is without AMX
bool wants(const char * who) {
    static const char * const wanted = std::getenv("LOOKM_ATTENTION");
    return wanted && std::strcmp(wanted, who) == 0;
}

// Each thread's part of ggml's memory. It begins and ends with a cache line; the plan of the graph
// has added one for each thread.
constexpr int64_t line = 64;

int64_t n_bytes_of_thread(const ggml_compute_params * params) {
    return static_cast<int64_t>(params->wsize) / params->nth / line * line;
}

float * scratch_of(const ggml_compute_params * params) {
    const auto begin = reinterpret_cast<uintptr_t>(params->wdata) +
                       static_cast<uintptr_t>(params->ith * n_bytes_of_thread(params));
    return reinterpret_cast<float *>((begin + line - 1) / line * line);
}

int64_t n_bytes(const ggml_tensor * k, const ggml_tensor * v, int64_t n_heads) {
    return tiles<float_products>::n_floats(k, v, n_heads) * static_cast<int64_t>(sizeof(float));
}

// Of one sequence, the last query sees all cells that the first one sees, which are its own as well.
bool is_of_one_sequence(const attention_node & node) {
    constexpr uint16_t least = 0xfc00; // -inf
    for (int64_t sequence = 0; node.mask && sequence < node.q->ne[3]; ++sequence) {
        const ggml_fp16_t * first = node.mask_row(0, 0, sequence);
        const ggml_fp16_t * last = node.mask_row(node.q->ne[1] - 1, 0, sequence);
        for (int64_t c = 0; c < node.k->ne[1]; ++c) {
            if (first[c] != least && last[c] == least) {
                return false;
            }
        }
    }
    return true;
}

bool can_compute(const ggml_compute_params * params, const ggml_tensor * dst) {
    static const bool is_off = wants("ggml");
    const ggml_tensor *q = dst->src[0], *k = dst->src[1], *v = dst->src[2], *mask = dst->src[3];
    return !is_off && !params->use_ref && q->type == GGML_TYPE_F32 &&
           q->ne[1] >= n_queries_of_one && q->nb[0] == sizeof(float) && can_read(k) &&
           can_read(v) && k->ne[1] > 0 && (!mask || mask->type == GGML_TYPE_F16) &&
           dst->type == GGML_TYPE_F32 && n_bytes(k, v, 1) + line <= n_bytes_of_thread(params) &&
           (q->ne[1] >= n_queries_of_any || is_of_one_sequence(attention_node(dst)));
}

// How the work is cut into tasks
struct task_sizes {
    task_sizes(const ggml_compute_params * params, const attention_node & node)
        : n_blocks((node.q->ne[1] + n_queries - 1) / n_queries),
          n_group(node.q->ne[2] / std::max(node.k->ne[2], node.v->ne[2])),
          n_heads(n_heads_together(params, node)), n_parts((n_group + n_heads - 1) / n_heads),
          n_each(node.q->ne[2] / n_group * n_parts) {}

    int64_t n_blocks; // of queries
    int64_t n_group;  // heads with the same keys and values
    int64_t n_heads;  // of a task
    int64_t n_parts;  // tasks of a group
    int64_t n_each;   // tasks of a block

  private:
    // The keys and values of heads that are computed together are converted once. They are as many
    // as ggml's memory and the CPU's cache hold, and so few that all threads have several tasks.
    int64_t n_heads_together(const ggml_compute_params * params,
                             const attention_node & node) const {
        constexpr int64_t cache = 512 * 1024;
        const int64_t room = std::min(n_bytes_of_thread(params) - line, cache);
        const int64_t common = n_bytes(node.k, node.v, 0);
        const int64_t that_fit = (room - common) / (n_bytes(node.k, node.v, 1) - common);
        const int64_t n_all = n_blocks * node.q->ne[2] * node.q->ne[3];
        const int64_t most = std::min({that_fit, n_all / (4 * params->nth), n_heads_most});
        return std::clamp<int64_t>(most, 1, n_group);
    }
};

template <class products>
void compute(const ggml_compute_params * params, const attention_node & node, ggml_tensor * dst) {
    const task_sizes sizes(params, node);
    const int64_t n_all = sizes.n_blocks * sizes.n_each * node.q->ne[3];
    tiles<products> own(node, scratch_of(params));
    // the last queries first, as they see the most cells
    for (int64_t i = params->ith; i < n_all; i = ggml_threadpool_chunk_add(params->threadpool, 1)) {
        const int64_t block = i / sizes.n_each, task = i % sizes.n_each;
        const int64_t first = (sizes.n_blocks - 1 - block % sizes.n_blocks) * n_queries;
        const int64_t in_group = task % sizes.n_parts * sizes.n_heads;
        own.compute(first, std::min(n_queries, node.q->ne[1] - first),
                    task / sizes.n_parts * sizes.n_group + in_group,
                    std::min(sizes.n_heads, sizes.n_group - in_group), block / sizes.n_blocks, dst);
    }
}

// Floats are kept for those who chose f32. Others have no more than 16 bits to lose.
bool wants_amx(const attention_node & node) {
#ifdef LOOKM_AMX
    static const bool can = !wants("floats") && attention::can_use_amx();
    return can && node.k->type != GGML_TYPE_F32 && node.v->type != GGML_TYPE_F32 &&
           node.k->ne[0] % 32 == 0 && node.v->ne[0] % 32 == 0;
#else
    (void)node;
    return false;
#endif
}

} // namespace

} // namespace lookm

extern "C" void lookm_flash_attn_ext(const ggml_compute_params * params, ggml_tensor * dst) {
    using namespace lookm;
    if (!can_compute(params, dst)) {
        ggml_compute_forward_flash_attn_ext(params, dst);
        return;
    }
    const attention_node node(dst);
    if (params->ith == 0) {
        ggml_threadpool_chunk_set(params->threadpool, params->nth);
    }
    ggml_barrier(params->threadpool);
#ifdef LOOKM_AMX
    if (wants_amx(node)) {
        compute<attention::amx_products>(params, node, dst);
        return;
    }
#endif
    compute<float_products>(params, node, dst);
}
