#pragma once

#include "mtmd.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace lookm {

// The positions that mtmd gives to an image's cells.
enum class cell_positions {
    unknown,  // mtmd saves chunks in another format than we know
    in_a_row, // one after another
    in_a_grid // column and row (M-RoPE)
};

// What only a saved chunk says of an image: mtmd has no functions for it. It is packed:
//
//   u64 2 (version), u32 1 (type: image), u64 n and n i32 (text tokens), u8 (is image) 1, u32 [5]
//   (columns, rows, positions, index, frames), u64 n and n bytes (id), u8 (is audio), u64 n, then
//   for each of n images: u8 [2], i32 (padding), i32 width, i32 height, ...
class saved_chunk {
  public:
    explicit saved_chunk(const mtmd_input_chunk * chunk);

    // Width and height of what the encoder sees; 0 x 0 if that is unknown.
    std::pair<int32_t, int32_t> pixels() const { return {width_, height_}; }
    cell_positions positions() const { return positions_; }
    uint32_t columns() const { return columns_; }
    uint32_t rows() const { return rows_; }

    // The same image, without pixels, with another number of cells and another id. positions() must
    // be known. Null if mtmd does not take it.
    mtmd::input_chunk_ptr changed(uint32_t columns, uint32_t rows, const std::string & id) const;

  private:
    std::vector<char> bytes_;
    size_t grid_at_ = 0, id_at_ = 0;
    uint32_t columns_ = 0, rows_ = 0;
    cell_positions positions_ = cell_positions::unknown;
    int32_t width_ = 0, height_ = 0;
};

} // namespace lookm
