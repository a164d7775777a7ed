#pragma once

#include <cstdint>

namespace lookm {

// Dot products of many rows with many rows on a CPU, f32, tile by tile. Both sides are packed
// first:
//
//   block  24 rows  [d, 24] in the order of the kernel
//   panel  16 rows  [d][16]: one load gives the same element of all rows
//   tile   [24][16] tile[r][c] = block row r . panel row c
//
// Each product is summed in the order of its elements wherever its rows are placed, so equal rows
// give equal bits. This file, with cpu_tiles, is compiled with the architecture flags of ggml's CPU
// backend.
constexpr int64_t n_block = 24;
constexpr int64_t n_panel = 16;
constexpr int64_t n_tile = n_block * n_panel;

// rows [n_rows, d], n_rows <= 24 or 16; missing ones become zeros.
void pack_block(const float * rows, int64_t n_rows, int64_t d, float * block);
void pack_panel(const float * rows, int64_t n_rows, int64_t d, float * panel);

// Rows of a tile that multiply() writes for n_rows: a whole number of the kernel's steps, at
// most 24.
int64_t whole_rows(int64_t n_rows);

void multiply(const float * block, int64_t n_rows, const float * panel, int64_t d, float * tile);

} // namespace lookm
