#pragma once

#include "mtmd.h"

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace lookm {

// The default limit of an image's pixels: the size of pictures from cameras with 64 megapixels.
constexpr int64_t default_max_pixels = 8192 * 8192;

struct image_size {
    uint32_t width = 0;
    uint32_t height = 0;
};

// Decodes one image of a prompt as RGB. May be called more than once. Its exceptions pass through
// the functions that call it.
using image_source = std::function<mtmd::bitmap()>;

// mtmd's chunks of a prompt with images.
struct image_chunks {
    mtmd::input_chunks_ptr outline; // text, and a chunk without pixels for each piece of an image
    // the pieces with pixels in the order of the prompt; owned by images
    std::vector<const mtmd_input_chunk *> pieces;
    std::vector<mtmd::input_chunks_ptr> images;
    std::vector<size_t> ends; // for each image, the number of pieces up to and including its last
    std::vector<image_size> sizes; // of the images as given
};

// Tokenizes a text that contains the encoder's marker once for each image. The chunks are those
// that mtmd_tokenize() would make, but it needs all decoded images at the same time; here, images
// are decoded and prepared one after the other, so that only one is in memory at full size. begins:
// whether the text begins a sequence, so that it gets the tokens for that. Throws bad_argument
// "images" if the encoder rejects an image.
image_chunks make_image_chunks(const mtmd_context * mmproj, const std::string & text,
                               std::span<const image_source> images, bool begins);

// A chunk as mtmd saves it: everything except its pixels.
std::vector<char> saved_bytes(const mtmd_input_chunk * chunk);

} // namespace lookm
