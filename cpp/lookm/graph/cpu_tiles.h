#pragma once

#include "lookm/graph/cpu_products.h"

#include <cstdint>

namespace lookm {

// What is done to the tiles [24][16] of a product while they are in the cache. n_rows is
// whole_rows(...) everywhere; arrays [24][16] hold one number for each row and lane of the panels,
// to be reduced over the lanes at the end.

// tile = softcap * tanh(tile / softcap)
void cap_tile(float * tile, int64_t n_rows, float softcap);

// most [24][16] = max(most, tile)
void raise_most(const float * tile, int64_t n_rows, float * most);

// tile = exp(tile - shift[row]), to 1e-7; sums [24][16] += tile. tile - shift is at most 88; -inf
// gives 0.
void exp_tile(float * tile, int64_t n_rows, const float * shift, float * sums);

// columns [16] += sum over rows of weight[row] * tile
void add_columns(const float * tile, int64_t n_rows, const float * weight, float * columns);

// columns [16] += sum over rows of weight[row] * tile^2
void add_squared_columns(const float * tile, int64_t n_rows, const float * weight, float * columns);

// Where tile exceeds best [24][16], best = tile and at [24][16] = panel. The first of equals stays;
// NaN never wins.
void keep_best(const float * tile, int64_t n_rows, int32_t panel, float * best, int32_t * at);

// row += weight * x, n elements
void add_row(const float * x, int64_t n, float weight, float * row);

// in doubles
double sum_of_squares(const float * x, int64_t n);

// sum = (weight * x + sum) / count, n elements
void mean_row(const float * x, int64_t n, float weight, float count, float * sum);

// sums [n] += weight * x, squares [n] += weight * x^2, over n_rows rows x that lie stride floats
// apart; squares may be nullptr
void add_rows(const float * x, int64_t n_rows, int64_t stride, int64_t n, float weight,
              float * sums, float * squares);

} // namespace lookm
