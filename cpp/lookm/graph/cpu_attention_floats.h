#pragma once

#include "lookm/graph/cpu_vector.h"

#include <algorithm>
#include <cstdint>

// The products of a tile of attention in f32: what cpu_attention.cpp computes with on any CPU. As
// in cpu_vector.h, everything has internal linkage.
namespace lookm::attention {

namespace {

// Queries and cells of a tile. The queries are the lanes of the vectors.
constexpr int64_t n_queries = 64;
constexpr int64_t n_cells = 64;

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

// c [n_rows][n_v * n_lanes] += a [n_rows][depth] * b [depth][...]; rows of b and c are n_queries
template <int64_t n_rows, int64_t n_v>
void add_sums(float_matrix a, int64_t depth, const float * b, float * c) {
    using namespace simd;
    floats sum[n_rows][n_v];
    for (int64_t r = 0; r < n_rows; ++r) {
        for (int64_t v = 0; v < n_v; ++v) {
            sum[r][v] = load(c + r * n_queries + v * n_lanes);
        }
    }
    for (int64_t e = 0; e < depth; ++e) {
        floats x[n_v];
        for (int64_t v = 0; v < n_v; ++v) {
            x[v] = load(b + e * n_queries + v * n_lanes);
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
            store(c + r * n_queries + v * n_lanes, sum[r][v]);
        }
    }
}

template <int64_t n_rows>
void add_rows(float_matrix a, int64_t depth, const float * b, float * c, int64_t n) {
    int64_t q = 0;
    for (; q + n_sum_vectors * simd::n_lanes <= n; q += n_sum_vectors * simd::n_lanes) {
        add_sums<n_rows, n_sum_vectors>(a, depth, b + q, c + q);
    }
    for (; q < n; q += simd::n_lanes) {
        add_sums<n_rows, 1>(a, depth, b + q, c + q);
    }
}

// Keys and values stay as they are, [n_cells][d], and so do queries and probabilities,
// [d or n_cells][n_queries].
struct float_products {
    void begin() {}
    void end() {}

    // Where rows of K or V of the tile are to be written before put_keys() or put_values()
    static float * rows_at(float * cells, int64_t first, int64_t d, float *) {
        return cells + first * d;
    }
    static void put_keys(const float *, int64_t, int64_t, float *) {}
    static void put_values(const float *, int64_t, int64_t, float *) {}
    static void put_lanes(float *, int64_t) {}

    // logits [n_cells][n_queries] = keys * queries, of the first n queries
    static void multiply_keys(const float * keys, int64_t d, const float * queries, float * logits,
                              int64_t n) {
        std::fill_n(logits, n_cells * n_queries, 0.0f);
        add({keys, d, 1}, n_cells, d, queries, logits, n);
    }
    // sums [d][n_queries] += transposed values * probabilities
    static void add_values(const float * values, int64_t d, const float * probs, float * sums,
                           int64_t n) {
        add({values, 1, d}, d, n_cells, probs, sums, n);
    }

  private:
    static void add(float_matrix a, int64_t n_rows, int64_t depth, const float * b, float * c,
                    int64_t n) {
        int64_t r = 0;
        for (; r + n_sum_rows <= n_rows; r += n_sum_rows) {
            add_rows<n_sum_rows>({a.at + r * a.row, a.row, a.column}, depth, b, c + r * n_queries,
                                 n);
        }
        for (; r < n_rows; ++r) {
            add_rows<1>({a.at + r * a.row, a.row, a.column}, depth, b, c + r * n_queries, n);
        }
    }
};

} // namespace

} // namespace lookm::attention
