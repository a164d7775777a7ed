#pragma once

#include "lookm/prompt/prompt.h"

#include <cstdint>
#include <string>
#include <vector>

namespace lookm {

// What mtmd tells about the images that it prepares, without preparing one.

// What the mmproj file says about its projector.
struct projector_facts {
    std::string name;            // as the file says: "mlp" or "pixtral"
    bool has_row_breaks = false; // an embedding of its own between rows of cells
    // llama.cpp appends a class token to the patches of CLIP and then leaves out the first row as
    // if it were there: each cell shows the patch after its own, the last one the class token
    bool one_patch_on = false;
    bool whole_first = false; // of an image in tiles the whole comes before its tiles, not after
    bool stretches_tiles =
        false; // an image is stretched to fill its tiles, not put in their middle
};
projector_facts read_projector(const std::string & mmproj_path);

// Pixels that the encoder gets, 0 x 0 where mtmd does not tell; cells that come out.
struct piece_facts {
    int32_t width = 0, height = 0, n_cells = 0;
};

struct image_facts {
    std::vector<piece_facts> pieces; // in the order of the prompt
    bool has_whole = false; // mtmd cuts images and adds a view of the whole, maybe that alone
    int32_t columns = 0, rows = 0; // of tiles; 0 where there are none, or mtmd does not tell
};
// Of an image of this size; its pixels are not read. mtmd has no calls for these facts: the pixels
// are read from the form in which it saves a chunk, tiles from its log. Throws std::runtime_error
// if it refuses the image.
image_facts read_image_facts(const mtmd_context * mmproj, const std::string & marker,
                             const image_size & image);

} // namespace lookm
