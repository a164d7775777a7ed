#pragma once

#include "lookm/prompt/prompt.h"

#include <cstdint>
#include <string>
#include <vector>

namespace lookm {

// How mtmd cuts images into pieces and cells, found out without preparing one.

// What the mmproj file says about its projector.
struct projector_facts {
    std::string name;            // the type as the file names it: "mlp", "pixtral", ...
    bool has_row_breaks = false; // there is a separate embedding between rows of cells
    // llama.cpp appends a class token to the patches of CLIP, but then drops the first row as if
    // the class token were there: each cell shows the next patch, and the last cell the class token
    bool one_patch_on = false;
    bool whole_first = false; // an image's view of the whole comes before its tiles, not after them
    // an image is stretched to fill its tiles; otherwise it is scaled to fit and centred
    bool stretches_tiles = false;
};
projector_facts read_projector(const std::string & mmproj_path);

// Size in pixels that the encoder gets, 0 x 0 if mtmd does not say, and the number of its cells.
struct piece_facts {
    int32_t width = 0, height = 0, n_cells = 0;
};

struct image_facts {
    std::vector<piece_facts> pieces; // in the order of the prompt
    // mtmd cuts images into tiles and adds a view of the whole; small images have only the latter
    bool has_whole = false;
    int32_t columns = 0, rows = 0; // of tiles; 0 if there are none, or mtmd does not say
};
// How mtmd would cut an image of this size; no pixels are needed. mtmd has no functions for these
// facts: sizes are read from a saved chunk, and tiles from mtmd's log. Throws std::runtime_error if
// mtmd rejects the image.
image_facts read_image_facts(const mtmd_context * mmproj, const std::string & marker,
                             const image_size & image);

} // namespace lookm
