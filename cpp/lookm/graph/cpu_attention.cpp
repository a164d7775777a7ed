#include "lookm/graph/cpu_attention.h"

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

using simd::floats;
using simd::load;
using simd::n_lanes;
using simd::splat;
using simd::store;

constexpr float none = -std::numeric_limits<float>::infinity();

// Queries and cells of a tile
constexpr int64_t n_queries = 64;
constexpr int64_t n_cells = 64;
// Fewer queries are left to ggml, which rounds them as it rounds the single query of a token of the
// answer: so a short batch of tokens has the probabilities of these tokens one by one.
constexpr int64_t n_queries_least = 64;
constexpr int64_t head_dim_most = n_queries * n_cells / n_lanes; // keys are transposed in a tile

// Rows and vectors of a product that are added up in registers
#if !defined(__GNUC__)
constexpr int64_t n_sum_rows = 3, n_sum_vectors = 1;
#elif defined(__AVX512F__) || defined(__aarch64__)
constexpr int64_t n_sum_rows = 6, n_sum_vectors = 4; // 24 sums in 32 registers
#elif defined(__AVX__)
constexpr int64_t n_sum_rows = 6, n_sum_vectors = 2; // 12 sums in 16 registers
#else
constexpr int64_t n_sum_rows = 4, n_sum_vectors = 2; // 8 sums in 16 registers
#endif

// c [n_rows][n_v * n_lanes] += a [n_rows][d] * b [d][...]
template <int64_t n_rows, int64_t n_v>
void add_sums(const float * a, int64_t d, const float * b, int64_t b_stride, float * c,
              int64_t c_stride) {
    floats sum[n_rows][n_v];
    for (int64_t r = 0; r < n_rows; ++r) {
        for (int64_t v = 0; v < n_v; ++v) {
            sum[r][v] = load(c + r * c_stride + v * n_lanes);
        }
    }
    for (int64_t e = 0; e < d; ++e) {
        floats x[n_v];
        for (int64_t v = 0; v < n_v; ++v) {
            x[v] = load(b + e * b_stride + v * n_lanes);
        }
        for (int64_t r = 0; r < n_rows; ++r) {
            const floats w = splat(a[r * d + e]);
            for (int64_t v = 0; v < n_v; ++v) {
                sum[r][v] += w * x[v];
            }
        }
    }
    for (int64_t r = 0; r < n_rows; ++r) {
        for (int64_t v = 0; v < n_v; ++v) {
            store(c + r * c_stride + v * n_lanes, sum[r][v]);
        }
    }
}

template <int64_t n_rows>
void add_rows(const float * a, int64_t d, const float * b, float * c, int64_t n) {
    int64_t at = 0;
    for (; at + n_sum_vectors * n_lanes <= n; at += n_sum_vectors * n_lanes) {
        add_sums<n_rows, n_sum_vectors>(a, d, b + at, n, c + at, n);
    }
    for (; at < n; at += n_lanes) {
        add_sums<n_rows, 1>(a, d, b + at, n, c + at, n);
    }
}

// c [n_rows][n] += a [n_rows][d] * b [d][n]; n is a multiple of n_lanes
void add_product(const float * a, int64_t n_rows, int64_t d, const float * b, float * c,
                 int64_t n) {
    int64_t r = 0;
    for (; r + n_sum_rows <= n_rows; r += n_sum_rows) {
        add_rows<n_sum_rows>(a + r * d, d, b, c + r * n, n);
    }
    for (; r < n_rows; ++r) {
        add_rows<1>(a + r * d, d, b, c + r * n, n);
    }
}

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

// out[e * out_stride + r] = rows[r * d + e] for r < n_lanes
void transpose(const float * rows, int64_t d, float * out, int64_t out_stride) {
#ifdef LOOKM_SHUFFLES
    for (int64_t e = 0; e < d; e += n_lanes) {
        simd::transpose_square(rows + e, d, out + e * out_stride, out_stride);
    }
#else
    for (int64_t r = 0; r < n_lanes; ++r) {
        for (int64_t e = 0; e < d; ++e) {
            out[e * out_stride + r] = rows[r * d + e];
        }
    }
#endif
}

float largest(const float * x, int64_t n) {
    floats most = load(x);
    for (int64_t i = n_lanes; i < n; i += n_lanes) {
        most = simd::larger(load(x + i), most);
    }
    float lanes[n_lanes];
    store(lanes, most);
    return *std::max_element(lanes, lanes + n_lanes);
}

void scale(float * x, int64_t n, float by) {
    for (int64_t i = 0; i < n; i += n_lanes) {
        store(x + i, splat(by) * load(x + i));
    }
}

// x = exp(x - most); returns the sum
float exp_row(float * x, int64_t n, float most) {
    floats sum = {};
    for (int64_t i = 0; i < n; i += n_lanes) {
        const floats e = simd::exp(load(x + i) - splat(most));
        store(x + i, e);
        sum += e;
    }
    float lanes[n_lanes], total = 0.0f;
    store(lanes, sum);
    for (const float lane : lanes) {
        total += lane;
    }
    return total;
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

// The attention of up to n_queries queries of a head, tile by tile of the cells, with a running
// maximum (Milakov and Gimelshein 2018; Dao et al. 2022). Everything is f32.
class head_tiles {
  public:
    // scratch: n_floats() of the node
    head_tiles(const attention_node & node, float * scratch)
        : node_(node), d_k_(node.k->ne[0]), d_v_(node.v->ne[0]), queries_(scratch),
          keys_(queries_ + n_queries * d_k_), values_(keys_ + n_cells * d_k_),
          sums_(values_ + n_cells * d_v_), tile_(sums_ + n_queries * d_v_),
          mask_(tile_ + n_queries * n_cells) {}

    static int64_t n_floats(const ggml_tensor * k, const ggml_tensor * v) {
        return (n_queries + n_cells) * (k->ne[0] + v->ne[0]) + 2 * n_queries * n_cells;
    }

    void compute(int64_t first, int64_t n, int64_t head, int64_t sequence, ggml_tensor * dst) {
        n_ = n;
        std::fill_n(most_, n, none);
        std::fill_n(total_, n, 0.0f);
        std::fill_n(sums_, n * d_v_, 0.0f);
        for (int64_t r = 0; r < n; ++r) {
            std::memcpy(queries_ + r * d_k_, row_of(node_.q, first + r, head, sequence),
                        d_k_ * sizeof(float));
        }
        scale(queries_, n * d_k_, node_.factor);
        const float slope = node_.slope(head);
        const int64_t k_head = head / (node_.q->ne[2] / node_.k->ne[2]);
        const int64_t v_head = head / (node_.q->ne[2] / node_.v->ne[2]);
        const int64_t k_sequence = sequence / (node_.q->ne[3] / node_.k->ne[3]);
        const int64_t v_sequence = sequence / (node_.q->ne[3] / node_.v->ne[3]);
        for (int64_t cell = 0; cell < node_.k->ne[1]; cell += n_cells) {
            const int64_t n_here = std::min(n_cells, node_.k->ne[1] - cell);
            const seen what = read_mask(first, head, sequence, cell, n_here, slope);
            if (what == seen::nothing) {
                continue;
            }
            read_keys(cell, n_here, k_head, k_sequence);
            for (int64_t c = 0; c < n_cells; ++c) {
                float * const value = values_ + c * d_v_;
                if (c < n_here) {
                    read_row(node_.v->type, row_of(node_.v, cell + c, v_head, v_sequence), d_v_,
                             value);
                } else {
                    std::fill_n(value, d_v_, 0.0f);
                }
            }
            add_tile(what);
        }
        finish(first, head, sequence, dst);
    }

  private:
    seen read_mask(int64_t first, int64_t head, int64_t sequence, int64_t cell, int64_t n_here,
                   float slope) {
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
        for (int64_t r = 0; r < n_; ++r) {
            float * const to = mask_ + r * n_cells;
            std::fill(to + n_here, to + n_cells, none);
            if (!node_.mask) {
                std::fill_n(to, n_here, 0.0f);
                continue;
            }
            ggml_cpu_fp16_to_fp32(node_.mask_row(first + r, head, sequence) + cell, to, n_here);
            if (slope != 1.0f) {
                scale(to, n_cells, slope);
            }
        }
        return seen::some;
    }

    // Transposed, so that a vector holds the same number of several cells
    void read_keys(int64_t cell, int64_t n_here, int64_t head, int64_t sequence) {
        float * const rows = tile_; // not in use yet
        for (int64_t c0 = 0; c0 < n_cells; c0 += n_lanes) {
            for (int64_t c = 0; c < n_lanes; ++c) {
                if (c0 + c < n_here) {
                    read_row(node_.k->type, row_of(node_.k, cell + c0 + c, head, sequence), d_k_,
                             rows + c * d_k_);
                } else {
                    std::fill_n(rows + c * d_k_, d_k_, 0.0f);
                }
            }
            transpose(rows, d_k_, keys_ + c0, n_cells);
        }
    }

    void add_tile(seen what) {
        std::fill_n(tile_, n_ * n_cells, 0.0f);
        add_product(queries_, n_, d_k_, keys_, tile_, n_cells);
        if (node_.softcap != 0.0f) {
            for (int64_t i = 0; i < n_ * n_cells; i += n_lanes) {
                store(tile_ + i, splat(node_.softcap) * simd::tanh(load(tile_ + i)));
            }
        }
        if (what == seen::some) {
            for (int64_t i = 0; i < n_ * n_cells; i += n_lanes) {
                store(tile_ + i, load(tile_ + i) + load(mask_ + i));
            }
        }
        for (int64_t r = 0; r < n_; ++r) {
            float * const row = tile_ + r * n_cells;
            const float most = std::max(most_[r], largest(row, n_cells));
            if (most == none) { // this query has seen nothing yet
                std::fill_n(row, n_cells, 0.0f);
                continue;
            }
            if (most > most_[r]) {
                const float less = std::exp(most_[r] - most);
                scale(sums_ + r * d_v_, d_v_, less);
                total_[r] *= less;
                most_[r] = most;
            }
            total_[r] += exp_row(row, n_cells, most);
        }
        add_product(tile_, n_, n_cells, values_, sums_, d_v_);
    }

    void finish(int64_t first, int64_t head, int64_t sequence, ggml_tensor * dst) {
        for (int64_t r = 0; r < n_; ++r) {
            float factor = 1.0f;
            if (node_.sinks) { // as of one more cell without a value
                const float sink = static_cast<const float *>(node_.sinks->data)[head];
                const float most = std::max(most_[r], sink);
                factor = std::exp(most_[r] - most);
                total_[r] = total_[r] * factor + std::exp(sink - most);
            }
            scale(sums_ + r * d_v_, d_v_, total_[r] > 0.0f ? factor / total_[r] : 0.0f);
            const int64_t row = (sequence * dst->ne[2] + first + r) * dst->ne[1] + head;
            std::memcpy(static_cast<char *>(dst->data) + row * dst->nb[1], sums_ + r * d_v_,
                        d_v_ * sizeof(float));
        }
    }

    const attention_node & node_;
    int64_t d_k_, d_v_, n_ = 0;
    float *queries_, *keys_, *values_, *sums_, *tile_, *mask_;
    float most_[n_queries], total_[n_queries];
};

bool can_read(const ggml_tensor * t) {
    return t->nb[0] == ggml_type_size(t->type) && t->ne[0] % n_lanes == 0 &&
           t->ne[0] <= head_dim_most &&
           (t->type == GGML_TYPE_F32 || ggml_get_type_traits(t->type)->to_float);
}

// For comparisons: LOOKM_ATTENTION=ggml
bool is_off() {
    static const bool off = [] {
        const char * who = std::getenv("LOOKM_ATTENTION");
        return who && std::strcmp(who, "ggml") == 0;
    }();
    return off;
}

bool can_compute(const ggml_compute_params * params, const ggml_tensor * dst) {
    const ggml_tensor *q = dst->src[0], *k = dst->src[1], *v = dst->src[2], *mask = dst->src[3];
    const size_t floats_of_all = params->nth * head_tiles::n_floats(k, v);
    return !is_off() && !params->use_ref && q->type == GGML_TYPE_F32 &&
           q->ne[1] >= n_queries_least && q->nb[0] == sizeof(float) && can_read(k) && can_read(v) &&
           k->ne[1] > 0 && (!mask || mask->type == GGML_TYPE_F16) && dst->type == GGML_TYPE_F32 &&
           floats_of_all * sizeof(float) <= params->wsize;
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
    const int64_t n_blocks = (node.q->ne[1] + n_queries - 1) / n_queries;
    const int64_t n_heads = node.q->ne[2], n_all = n_blocks * n_heads * node.q->ne[3];
    if (params->ith == 0) {
        ggml_threadpool_chunk_set(params->threadpool, params->nth);
    }
    ggml_barrier(params->threadpool);
    head_tiles tiles(node, static_cast<float *>(params->wdata) +
                               params->ith * head_tiles::n_floats(node.k, node.v));
    // the last queries first, as they see the most cells
    for (int64_t i = params->ith; i < n_all; i = ggml_threadpool_chunk_add(params->threadpool, 1)) {
        const int64_t block = n_blocks - 1 - i / n_heads % n_blocks;
        const int64_t first = block * n_queries;
        tiles.compute(first, std::min(n_queries, node.q->ne[1] - first), i % n_heads,
                      i / n_heads / n_blocks, dst);
    }
}
