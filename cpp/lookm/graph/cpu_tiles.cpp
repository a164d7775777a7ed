#include "lookm/graph/cpu_tiles.h"

#include "lookm/graph/cpu_vector.h"

namespace lookm {

namespace {

using simd::floats;
using simd::load;
using simd::n_lanes;
using simd::splat;
using simd::store;

void cap_tile(float * tile, int64_t n_rows, float softcap) {
    for (int64_t i = 0; i < n_rows * n_panel; i += n_lanes) {
        store(tile + i, splat(softcap) * simd::tanh(load(tile + i) / splat(softcap)));
    }
}

void raise_most(const float * tile, int64_t n_rows, float * most) {
    for (int64_t i = 0; i < n_rows * n_panel; i += n_lanes) {
        store(most + i, simd::larger(load(tile + i), load(most + i)));
    }
}

void exp_tile(float * tile, int64_t n_rows, const float * shift, float * sums) {
    for (int64_t r = 0; r < n_rows; ++r) {
        const floats least = splat(shift[r]);
        for (int64_t i = r * n_panel; i < (r + 1) * n_panel; i += n_lanes) {
            const floats e = simd::exp(load(tile + i) - least);
            store(tile + i, e);
            store(sums + i, load(sums + i) + e);
        }
    }
}

void add_columns(const float * tile, int64_t n_rows, const float * weight, float * columns) {
    for (int64_t c = 0; c < n_panel; c += n_lanes) {
        floats sum = load(columns + c);
        for (int64_t r = 0; r < n_rows; ++r) {
            sum += splat(weight[r]) * load(tile + r * n_panel + c);
        }
        store(columns + c, sum);
    }
}

void add_squared_columns(const float * tile, int64_t n_rows, const float * weight,
                         float * columns) {
    for (int64_t c = 0; c < n_panel; c += n_lanes) {
        floats sum = load(columns + c);
        for (int64_t r = 0; r < n_rows; ++r) {
            const floats x = load(tile + r * n_panel + c);
            sum += splat(weight[r]) * x * x;
        }
        store(columns + c, sum);
    }
}

void keep_best(const float * tile, int64_t n_rows, int32_t panel, float * best, int32_t * at) {
    const simd::ints here = panel - simd::ints{};
    for (int64_t i = 0; i < n_rows * n_panel; i += n_lanes) {
        const floats x = load(tile + i);
        const simd::ints better = simd::greater(x, load(best + i));
        store(best + i, simd::select(better, x, load(best + i)));
        store(at + i, simd::select(better, here, load(at + i)));
    }
}

void add_row(const float * x, int64_t n, float weight, float * row) {
    for (int64_t i = 0; i < n; ++i) {
        row[i] += weight * x[i];
    }
}

double sum_of_squares(const float * x, int64_t n) {
    // several independent sums, as each addition to a single one would wait for the previous one
    constexpr int64_t n_sums = 8;
    double sums[n_sums] = {};
    int64_t i = 0;
    for (; i + n_sums <= n; i += n_sums) {
        for (int64_t s = 0; s < n_sums; ++s) {
            sums[s] += static_cast<double>(x[i + s]) * x[i + s];
        }
    }
    double sum = 0.0;
    for (; i < n; ++i) {
        sum += static_cast<double>(x[i]) * x[i];
    }
    for (const double s : sums) {
        sum += s;
    }
    return sum;
}

void mean_row(const float * x, int64_t n, float weight, float count, float * sum) {
    for (int64_t i = 0; i < n; ++i) {
        sum[i] = (weight * x[i] + sum[i]) / count;
    }
}

void add_rows(const float * x, int64_t n_rows, int64_t stride, int64_t n, float weight,
              float * sums, float * squares) {
    constexpr int64_t n_at_once = 8; // rows for each load and store of a sum
    for (int64_t r0 = 0; r0 < n_rows; r0 += n_at_once) {
        const float * rows = x + r0 * stride;
        const int64_t n_r = n_rows - r0 < n_at_once ? n_rows - r0 : n_at_once;
        int64_t c = 0;
        for (; c + n_lanes <= n; c += n_lanes) {
            floats sum = {}, square = {};
            for (int64_t r = 0; r < n_r; ++r) {
                const floats p = load(rows + r * stride + c);
                sum += p;
                square += p * p;
            }
            store(sums + c, load(sums + c) + splat(weight) * sum);
            if (squares) {
                store(squares + c, load(squares + c) + splat(weight) * square);
            }
        }
        for (; c < n; ++c) {
            for (int64_t r = 0; r < n_r; ++r) {
                const float p = rows[r * stride + c];
                sums[c] += weight * p;
                if (squares) {
                    squares[c] += weight * p * p;
                }
            }
        }
    }
}

} // namespace

const cpu_tiles & lookm_tiles() {
    static constexpr cpu_tiles all{
        cap_tile,  raise_most, exp_tile,       add_columns, add_squared_columns,
        keep_best, add_row,    sum_of_squares, mean_row,    add_rows};
    return all;
}

} // namespace lookm
