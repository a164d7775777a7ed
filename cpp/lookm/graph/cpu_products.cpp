#include "lookm/graph/cpu_products.h"

#include "lookm/graph/cpu_vector.h"

#include <algorithm>

#ifndef LOOKM_CPU_VARIANT
#define LOOKM_CPU_VARIANT ""
#endif

namespace lookm {

namespace {

constexpr int64_t n_step = simd::n_rows_at_once;
constexpr int64_t n_vectors = n_panel / simd::n_lanes;
static_assert(n_block % n_step == 0 && n_panel % simd::n_lanes == 0);

// Transposes rows [n_rows, d] to [d][width], in squares that fit into the L1 cache
void transpose(const float * rows, int64_t n_rows, int64_t d, int64_t width, float * out) {
    constexpr int64_t n_square = 8;
    for (int64_t e0 = 0; e0 < d; e0 += n_square) {
        const int64_t e1 = std::min(d, e0 + n_square);
        for (int64_t r = 0; r < width; ++r) {
            for (int64_t e = e0; e < e1; ++e) {
                out[e * width + r] = r < n_rows ? rows[r * d + e] : 0.0f;
            }
        }
    }
}

// All sums stay in registers. Each element of the rows takes n_vectors loads, n_step broadcasts and
// the multiplications.
void multiply_step(const float * block, const float * panel, int64_t d, float * tile) {
    simd::floats sum[n_step][n_vectors] = {};
    for (int64_t e = 0; e < d; ++e) {
        simd::floats column[n_vectors];
        for (int64_t v = 0; v < n_vectors; ++v) {
            column[v] = simd::load(panel + e * n_panel + v * simd::n_lanes);
        }
        for (int64_t r = 0; r < n_step; ++r) {
            const simd::floats x = simd::splat(block[e * n_step + r]);
            for (int64_t v = 0; v < n_vectors; ++v) {
                sum[r][v] += x * column[v];
            }
        }
    }
    for (int64_t r = 0; r < n_step; ++r) {
        for (int64_t v = 0; v < n_vectors; ++v) {
            simd::store(tile + r * n_panel + v * simd::n_lanes, sum[r][v]);
        }
    }
}

void pack_block(const float * rows, int64_t n_rows, int64_t d, float * block) {
    for (int64_t r = 0; r < n_rows; r += n_step) {
        transpose(rows + r * d, std::min(n_step, n_rows - r), d, n_step, block + r * d);
    }
}

void pack_panel(const float * rows, int64_t n_rows, int64_t d, float * panel) {
#ifdef LOOKM_SHUFFLES
    if (n_rows == n_panel && d % simd::n_lanes == 0) {
        for (int64_t e = 0; e < d; e += simd::n_lanes) {
            for (int64_t r = 0; r < n_panel; r += simd::n_lanes) {
                simd::transpose_square(rows + r * d + e, d, panel + e * n_panel + r, n_panel);
            }
        }
        return;
    }
#endif
    transpose(rows, n_rows, d, n_panel, panel);
}

int64_t whole_rows(int64_t n_rows) {
    return (n_rows + n_step - 1) / n_step * n_step;
}

void multiply(const float * block, int64_t n_rows, const float * panel, int64_t d, float * tile) {
    for (int64_t r = 0; r < n_rows; r += n_step) {
        multiply_step(block + r * d, panel, d, tile + r * n_panel);
    }
}

} // namespace

const cpu_products & lookm_products() {
    static constexpr cpu_products all{LOOKM_CPU_VARIANT, pack_block, pack_panel, whole_rows,
                                      multiply};
    return all;
}

} // namespace lookm
