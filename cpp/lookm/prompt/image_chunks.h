#pragma once

#include "mtmd.h"

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace lookm {

// Most pixels of an image unless more are allowed: what cameras of 64 megapixels take.
constexpr int64_t default_max_pixels = 8192 * 8192;

struct image_size {
    uint32_t width = 0;
    uint32_t height = 0;
};

// Decodes one image of a prompt, RGB. May be called more than once, and what it throws comes out of
// what called it.
using image_source = std::function<mtmd::bitmap()>;

// mtmd's chunks of a prompt with images.
struct image_chunks {
    mtmd::input_chunks_ptr outline; // text, and a chunk without pixels for each piece of an image
    std::vector<const mtmd_input_chunk *>
        pieces; // the pieces with pixels, in the prompt's order; owned by images
    std::vector<mtmd::input_chunks_ptr> images;
    std::vector<size_t> ends;      // of each image, the number of pieces up to its last one
    std::vector<image_size> sizes; // of the images as they were given
};

// Tokenizes a text that holds the encoder's marker once for each image. Images are decoded and
// prepared one after the other, so that only one of them is ever there at full size; mtmd_tokenize
// itself wants all of them at once. The chunks are the ones that it would make then. begins: no
// text comes before it, so that it gets the tokens that begin one. Throws std::invalid_argument
// when the encoder refuses an image.
image_chunks make_image_chunks(const mtmd_context * mmproj, const std::string & text,
                               std::span<const image_source> images, bool begins);

// What mtmd saves of a chunk: everything but its pixels.
std::vector<char> saved_bytes(const mtmd_input_chunk * chunk);

} // namespace lookm
