#pragma once

#include "lookm/graph/cpu_vector.h"

// The products of a tile of attention by AMX, Intel's unit for products of bf16 matrices that are
// added up in f32.
//
// A number is split into two of bf16: the nearest one, and the nearest one to the rest, together 16
// bits. All of f16, q8_0 and the like is (nearly) exact so. Of the four products of two such
// numbers, that of both rests is left out: it is below 2^-16 of the whole.
#if defined(__AMX_BF16__) && defined(__AVX512F__) && defined(__linux__)
#define LOOKM_AMX

#include <bit>
#include <cpuid.h>
#include <cstdint>
#include <cstring>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace lookm::attention {

namespace {

// Whether the CPU has it, and Linux grants it to this process
bool can_use_amx() {
    constexpr uint32_t bf16 = 1u << 22, tiles = 1u << 24;      // of leaf 7
    constexpr int request_permission = 0x1023, tile_data = 18; // arch_prctl(2)
    uint32_t a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d & bf16) != 0 && (d & tiles) != 0 &&
           syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}

struct split {
    simd::ints nearest, rest; // bf16 in the upper halves
};

simd::ints rounded(simd::floats x) {
    return (std::bit_cast<simd::ints>(x) + 0x8000) & static_cast<int32_t>(0xffff0000);
}

split split_of(simd::floats x) {
    const simd::ints nearest = rounded(x);
    return {nearest, rounded(x - std::bit_cast<simd::floats>(nearest))};
}

typedef uint32_t words __attribute__((vector_size(simd::n_lanes * 4)));
typedef uint16_t halves __attribute__((vector_size(simd::n_lanes * 2)));

simd::ints upper(simd::ints x) {
    return std::bit_cast<simd::ints>(std::bit_cast<words>(x) >> 16);
}

void store_halves(uint16_t * to, simd::ints x) {
    const auto upper_halves = __builtin_convertvector(std::bit_cast<words>(upper(x)), halves);
    std::memcpy(to, &upper_halves, sizeof(upper_halves));
}

// Keys are [2][n_cells][d] of bf16, values [2][d][n_cells]: first the nearest numbers, then the
// rests. Queries and probabilities are pairs of consecutive rows, [d or n_cells / 2][2][width]
// of two bf16. d is a multiple of 32.
class amx_products {
  public:
    static constexpr int64_t width = 64, n_cells = 64;

    // What the tiles were used for before goes on afterwards: ggml configures them once a thread.
    void begin() {
        _tile_storeconfig(before_);
        alignas(64) uint8_t config[64] = {};
        config[0] = 1; // palette
        for (int tile = 0; tile < 8; ++tile) {
            config[16 + 2 * tile] = 64; // bytes of a row
            config[48 + tile] = 16;     // rows
        }
        configure(config);
    }
    void end() { configure(before_); }

    static float * rows_at(float *, int64_t, int64_t, float * spare) { return spare; }

    static void put_keys(const float * rows, int64_t first, int64_t d, float * keys) {
        auto * nearest = reinterpret_cast<uint16_t *>(keys) + first * d;
        uint16_t * const rest = nearest + n_cells * d;
        for (int64_t i = 0; i < simd::n_lanes * d; i += simd::n_lanes) {
            const split x = split_of(simd::load(rows + i));
            store_halves(nearest + i, x.nearest);
            store_halves(rest + i, x.rest);
        }
    }

    static void put_values(const float * rows, int64_t first, int64_t d, float * values) {
        auto * nearest = reinterpret_cast<uint16_t *>(values) + first;
        uint16_t * const rest = nearest + n_cells * d;
        for (int64_t e0 = 0; e0 < d; e0 += simd::n_lanes) {
            float square[simd::n_lanes * simd::n_lanes];
            simd::transpose_square(rows + e0, d, square, simd::n_lanes);
            for (int64_t e = 0; e < simd::n_lanes; ++e) {
                const split x = split_of(simd::load(square + e * simd::n_lanes));
                store_halves(nearest + (e0 + e) * n_cells, x.nearest);
                store_halves(rest + (e0 + e) * n_cells, x.rest);
            }
        }
    }

    // x [n][width] becomes pairs, in place
    static void put_columns(float * x, int64_t n) {
        for (int64_t row = 0; row < n; row += 2, x += 2 * width) {
            for (int64_t q = 0; q < width; q += simd::n_lanes) {
                const split a = split_of(simd::load(x + q));
                const split b = split_of(simd::load(x + width + q));
                simd::store(x + q, std::bit_cast<simd::floats>(b.nearest | upper(a.nearest)));
                simd::store(x + width + q, std::bit_cast<simd::floats>(b.rest | upper(a.rest)));
            }
        }
    }

    static void multiply_keys(const float * keys, int64_t d, const float * queries, float * logits,
                              int64_t) {
        add<true>(keys, n_cells, d, queries, logits);
    }
    static void add_values(const float * values, int64_t d, const float * probs, float * sums,
                           int64_t) {
        add<false>(values, d, n_cells, probs, sums);
    }

  private:
    // The intrinsics tell the compiler neither that all of the configuration is read, nor that
    // memory is.
    static void configure(const uint8_t * config) {
        asm volatile("" ::"r"(config) : "memory");
        _tile_loadconfig(config);
    }

    // c [n_rows][width] (+)= a [2][n_rows][depth] * b, pairs [depth / 2][2][width]
    template <bool from_zero>
    static void add(const float * a, int64_t n_rows, int64_t depth, const float * b, float * c) {
        asm volatile("" ::: "memory");
        const auto * nearest = reinterpret_cast<const uint16_t *>(a);
        const uint16_t * const rest = nearest + n_rows * depth;
        for (int64_t r = 0; r < n_rows; r += 32) {
            for (int64_t q = 0; q < width; q += 32) {
                add_square<from_zero>(nearest + r * depth, rest + r * depth, depth, b + q,
                                      c + r * width + q);
            }
        }
    }

    // 32 rows of 32 columns
    template <bool from_zero>
    static void add_square(const uint16_t * nearest, const uint16_t * rest, int64_t depth,
                           const float * b, float * c) {
        constexpr int64_t row = width * sizeof(float);
        float * const below = c + 16 * width;
        if constexpr (from_zero) {
            _tile_zero(0);
            _tile_zero(1);
            _tile_zero(2);
            _tile_zero(3);
        } else {
            _tile_loadd(0, c, row);
            _tile_loadd(1, c + 16, row);
            _tile_loadd(2, below, row);
            _tile_loadd(3, below + 16, row);
        }
        for (int64_t e = 0; e < depth; e += 32, b += 32 * width) {
            load_left(nearest + e, depth);
            load_right(b);
            add_four();
            load_right(b + width);
            add_four();
            load_left(rest + e, depth);
            load_right(b);
            add_four();
        }
        _tile_stored(0, c, row);
        _tile_stored(1, c + 16, row);
        _tile_stored(2, below, row);
        _tile_stored(3, below + 16, row);
    }

    static void load_left(const uint16_t * a, int64_t depth) {
        const int64_t row = depth * static_cast<int64_t>(sizeof(uint16_t));
        _tile_loadd(4, a, row);
        _tile_loadd(5, a + 16 * depth, row);
    }
    static void load_right(const float * pairs) {
        constexpr int64_t row = 2 * width * sizeof(float);
        _tile_loadd(6, pairs, row);
        _tile_loadd(7, pairs + 16, row);
    }
    static void add_four() {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }

    alignas(64) uint8_t before_[64];
};

} // namespace

} // namespace lookm::attention

#endif
