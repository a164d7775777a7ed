#pragma once

#include "lookm/graph/cpu_products.h"

#include <cstdint>

namespace lookm {

// Operations on the tiles [24][16] of a product (cpu_products.h) while they are in the CPU's cache.
// n_rows is always a result of whole_rows(). Arrays [24][16] hold one number for each row and lane
// of the panels; the caller reduces them over the lanes at the end.
struct cpu_tiles {
    // tile = softcap * tanh(tile / softcap)
    void (*cap_tile)(float * tile, int64_t n_rows, float softcap);

    // most [24][16] = max(most, tile)
    void (*raise_most)(const float * tile, int64_t n_rows, float * most);

    // tile = exp(tile - shift[row]) with a relative error of 1e-7; sums [24][16] += tile.
    // tile - shift must be at most 88; -inf gives 0.
    void (*exp_tile)(float * tile, int64_t n_rows, const float * shift, float * sums);

    // columns [16] += sum over rows of weight[row] * tile
    void (*add_columns)(const float * tile, int64_t n_rows, const float * weight, float * columns);

    // columns [16] += sum over rows of weight[row] * tile^2
    void (*add_squared_columns)(const float * tile, int64_t n_rows, const float * weight,
                                float * columns);

    // Where tile > best [24][16]: best = tile and at [24][16] = panel. Of equal values the first
    // stays; NaN is never taken.
    void (*keep_best)(const float * tile, int64_t n_rows, int32_t panel, float * best,
                      int32_t * at);

    // row += weight * x, n elements
    void (*add_row)(const float * x, int64_t n, float weight, float * row);

    // sum of x^2 over n elements, added up in f64
    double (*sum_of_squares)(const float * x, int64_t n);

    // sum = (weight * x + sum) / count, n elements
    void (*mean_row)(const float * x, int64_t n, float weight, float count, float * sum);

    // sums [n] += weight * x, squares [n] += weight * x^2, over n_rows rows x that start stride
    // floats apart; squares may be nullptr
    void (*add_rows)(const float * x, int64_t n_rows, int64_t stride, int64_t n, float weight,
                     float * sums, float * squares);
};

// Those for this CPU, as lookm_products()
extern "C" const cpu_tiles & lookm_tiles(void);

} // namespace lookm
