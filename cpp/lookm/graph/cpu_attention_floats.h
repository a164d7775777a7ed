#pragma once

#include "lookm/graph/cpu_vector.h"

#include <algorithm>
#include <cstdint>

// The products of a tile of attention in f32: what cpu_attention.cpp computes with on any CPU. As
// in cpu_vector.h, everything has internal linkage.
namespace lookm::attention {

namespace {

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

// A matrix of floats whose number (r, e) is at[r * row + e * column]
struct float_matrix {
    const float * at;
    int64_t row, column;
};

// c [n_rows][n_v * n_lanes] += a [n_rows][depth] * b [depth][...]; b and c have `width` columns
template <int64_t width, int64_t n_rows, int64_t n_v>
void add_sums(float_matrix a, int64_t depth, const float * b, float * c) {
    using namespace simd;
    floats sum[n_rows][n_v];
    for (int64_t r = 0; r < n_rows; ++r) {
        for (int64_t v = 0; v < n_v; ++v) {
            sum[r][v] = load(c + r * width + v * n_lanes);
        }
    }
    for (int64_t e = 0; e < depth; ++e) {
        floats x[n_v];
        for (int64_t v = 0; v < n_v; ++v) {
            x[v] = load(b + e * width + v * n_lanes);
        }
        for (int64_t r = 0; r < n_rows; ++r) {
            const floats w = splat(a.at[r * a.row + e * a.column]);
            for (int64_t v = 0; v < n_v; ++v) {
                sum[r][v] += w * x[v];
            }
        }
    }
    for (int64_t r = 0; r < n_rows; ++r) {
        for (int64_t v = 0; v < n_v; ++v) {
            store(c + r * width + v * n_lanes, sum[r][v]);
        }
    }
}

template <int64_t width, int64_t n_rows_at_once, int64_t n_v>
void add_columns(float_matrix a, int64_t n_rows, int64_t depth, const float * b, float * c) {
    for (; n_rows >= n_rows_at_once; n_rows -= n_rows_at_once) {
        add_sums<width, n_rows_at_once, n_v>(a, depth, b, c);
        a.at += n_rows_at_once * a.row;
        c += n_rows_at_once * width;
    }
    for (; n_rows > 0; --n_rows) {
        add_sums<width, 1, n_v>(a, depth, b, c);
        a.at += a.row;
        c += width;
    }
}

// Keys and values stay as they are, [n_cells][d], and so do queries and probabilities, [d or
// n_cells][width].
struct as_they_are {
    void begin() {}
    void end() {}

    // Where rows of K or V of the tile are to be written before put_keys() or put_values()
    static float * rows_at(float * cells, int64_t first, int64_t d, float *) {
        return cells + first * d;
    }
    static void put_keys(const float *, int64_t, int64_t, float *) {}
    static void put_values(const float *, int64_t, int64_t, float *) {}
    static void put_columns(float *, int64_t) {}
};

struct float_products : as_they_are {
    static constexpr int64_t width = 64, n_cells = 64;

    // logits [n_cells][width] = keys * queries, of the first n columns, whole vectors
    static void multiply_keys(const float * keys, int64_t d, const float * queries, float * logits,
                              int64_t n) {
        std::fill_n(logits, n_cells * width, 0.0f);
        add({keys, d, 1}, n_cells, d, queries, logits, n);
    }
    // sums [d][width] += transposed values * probabilities
    static void add_values(const float * values, int64_t d, const float * probs, float * sums,
                           int64_t n) {
        add({values, 1, d}, d, n_cells, probs, sums, n);
    }

  private:
    static void add(float_matrix a, int64_t n_rows, int64_t depth, const float * b, float * c,
                    int64_t n) {
        constexpr int64_t whole = n_sum_vectors * simd::n_lanes;
        int64_t at = 0;
        for (; at + whole <= n; at += whole) {
            add_columns<width, n_sum_rows, n_sum_vectors>(a, n_rows, depth, b + at, c + at);
        }
        for (; at < n; at += simd::n_lanes) {
            add_columns<width, n_sum_rows, 1>(a, n_rows, depth, b + at, c + at);
        }
    }
};

// Of few queries: a block is a single column, and vectors are along keys and values. No bit of a
// column depends on which cells are next to each other in a tile.
struct row_products : as_they_are {
    static constexpr int64_t width = 1, n_cells = 32;

    static void multiply_keys(const float * keys, int64_t d, const float * query, float * logits,
                              int64_t) {
        using namespace simd;
        for (int64_t c = 0; c < n_cells; c += n_lanes) {
            float parts[n_lanes * n_lanes], turned[n_lanes * n_lanes];
            for (int64_t r = 0; r < n_lanes; ++r) {
                floats sum = {};
                for (int64_t e = 0; e < d; e += n_lanes) {
                    sum += load(keys + (c + r) * d + e) * load(query + e);
                }
                store(parts + r * n_lanes, sum);
            }
            transpose(parts, n_lanes, n_lanes, turned, n_lanes);
            floats sum = load(turned);
            for (int64_t e = 1; e < n_lanes; ++e) {
                sum += load(turned + e * n_lanes);
            }
            store(logits + c, sum);
        }
    }

    static void add_values(const float * values, int64_t d, const float * probs, float * sums,
                           int64_t) {
        int64_t e = 0;
        for (; e + 4 * simd::n_lanes <= d; e += 4 * simd::n_lanes) {
            add_vectors<4>(values + e, d, probs, sums + e);
        }
        for (; e < d; e += simd::n_lanes) {
            add_vectors<1>(values + e, d, probs, sums + e);
        }
    }

  private:
    template <int64_t n>
    static void add_vectors(const float * values, int64_t d, const float * probs, float * sums) {
        using namespace simd;
        floats sum[n];
        for (int64_t v = 0; v < n; ++v) {
            sum[v] = load(sums + v * n_lanes);
        }
        for (int64_t c = 0; c < n_cells; ++c) {
            const floats p = splat(probs[c]);
            for (int64_t v = 0; v < n; ++v) {
                sum[v] += p * load(values + c * d + v * n_lanes);
            }
        }
        for (int64_t v = 0; v < n; ++v) {
            store(sums + v * n_lanes, sum[v]);
        }
    }
};

} // namespace

} // namespace lookm::attention
