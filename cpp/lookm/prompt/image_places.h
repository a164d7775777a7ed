#pragma once

#include "lookm/prompt/image_facts.h"
#include "lookm/prompt/prompt.h"

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace lookm {

// The kind of a piece, which is what the encoder sees at a time: the whole image, or a tile of it.
enum class piece_kind { whole, tile };

// Which parts of the original image the cells of one piece show.
//
// area: x0, y0, x1, y1 of the piece, in units of the image's width and height; outside of [0, 1] if
// the image was padded:
//   a square piece with an image in its middle that is twice as wide as high  ->  0 -0.5 1 1.5
// nx, ny: the cells are nx columns and ny rows of equal squares; 0 x 0 if cells have no place.
struct image_piece {
    int32_t image; // index of the image in the prompt, from 0
    piece_kind kind = piece_kind::whole;
    bool has_area = false; // whether area is known
    std::array<double, 4> area{};
    int32_t nx = 0, ny = 0;
    // column and row of each cell; -1 -1 for cells without a place
    std::vector<std::array<int32_t, 2>> place;
    std::vector<std::array<int32_t, 2>> pruned = {}; // of cells that were not read (explanation)
};

// The columns and rows of a piece's cells; sets neither its image nor its area.
image_piece place_cells(const mtmd_input_chunk * chunk, const projector_facts & projector);

// The pieces of a prompt's images in the order of the prompt, with all cells that the encoder
// makes. Nothing is encoded.
//
// Columns and rows come from mtmd if it gives cells two-dimensional positions (M-RoPE, HunyuanVL).
// Otherwise they follow from the size of the piece in pixels, its number of cells, and the cells
// that the type of projector puts between them. Cells have no place if the type is unknown here, or
// if each cell sees the whole piece (resampler).
//
// Throws std::runtime_error if mtmd would not cut an image as it did for the prompt.
std::vector<image_piece> image_places(const mtmd_context * mmproj, const std::string & mmproj_path,
                                      const std::string & image_marker, const prompt & p);

} // namespace lookm
