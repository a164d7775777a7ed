#pragma once

#include "lookm/prompt/prompt.h"

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace lookm {

// A piece of an image that the encoder sees at once: the whole, or a tile of it.
enum class piece_kind { whole, tile };

// Where the cells of one piece lie in the image as it was given.
//
// area: x0, y0, x1, y1 that the piece covers, in widths and heights of the image; beyond [0, 1]
// where it was padded:
//   a square piece of an image twice as wide as high, put in the middle  ->  0 -0.5 1 1.5
// grid: the piece's cells are nx columns and ny rows of equal squares; 0 x 0 where no cell has a
// place of its own.
struct image_piece {
    int32_t image; // which one of the prompt, from 0
    piece_kind kind = piece_kind::whole;
    bool has_area = false;        // whether area is known
    std::array<double, 4> area{}; // of the grid
    int32_t nx = 0, ny = 0;
    std::vector<std::array<int32_t, 2>>
        place; // of each cell: column and row, -1 -1 for those without one
};

// The pieces of a prompt's images, in its order. Columns and rows are mtmd's own where it hands out
// positions of two dimensions (M-RoPE, HunyuanVL). Else they follow from what it tells about a
// piece, the pixels that the encoder gets and the number of cells, and from what the projector puts
// between them, which the mmproj file names. Of a projector that is not known here, and of one
// whose cells each look at all of the piece (resampler), no cell has a place. Nothing is encoded.
// Throws std::runtime_error when mtmd cuts an image in another way than before.
std::vector<image_piece> image_places(const mtmd_context * mmproj, const std::string & mmproj_path,
                                      const std::string & image_marker, const prompt & p);

} // namespace lookm
