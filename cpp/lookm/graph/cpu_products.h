#pragma once

#include <cstdint>

namespace lookm {

// Dot products of many rows with many other rows on a CPU, in f32, tile by tile. Both sides are
// packed first:
//
//   block  24 rows  [d, 24] in the order of the kernel
//   panel  16 rows  [d][16]: one load gives the same element of all rows
//   tile   [24][16] tile[r][c] = block row r . panel row c
//
// Each product is summed in the order of its elements, independent of where its rows are placed, so
// equal rows give equal bits.
constexpr int64_t n_block = 24;
constexpr int64_t n_panel = 16;
constexpr int64_t n_tile = n_block * n_panel;

struct cpu_products {
    // Name of the CPU that they are compiled for, or "" if there is only one
    const char * compiled_for;

    // Packs rows [n_rows, d], n_rows <= 24 for a block and <= 16 for a panel; missing rows become
    // zeros.
    void (*pack_block)(const float * rows, int64_t n_rows, int64_t d, float * block);
    void (*pack_panel)(const float * rows, int64_t n_rows, int64_t d, float * panel);

    // Number of tile rows that multiply() writes for n_rows: rounded up to the kernel's step, at
    // most 24.
    int64_t (*whole_rows)(int64_t n_rows);

    // tile = block rows . panel rows, for the first whole_rows(n_rows) rows of the block
    void (*multiply)(const float * block, int64_t n_rows, const float * panel, int64_t d,
                     float * tile);
};

// Those for this CPU. cpu_products.cpp and cpu_tiles.cpp are compiled with the architecture flags
// of ggml's CPU backend, in some builds once for each of several CPUs
// (third_party/cpu_variants.cmake).
extern "C" const cpu_products & lookm_products(void);

} // namespace lookm
