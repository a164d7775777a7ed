#pragma once

#include "mtmd.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace lookm {

// The default limit of an image's pixels: the size of pictures from cameras with 64 megapixels.
constexpr int64_t default_max_pixels = 8192 * 8192;

struct image_size {
    uint32_t width = 0;
    uint32_t height = 0;
};

// An image that has been decoded before: its bitmap's id, and its size.
struct known_image {
    std::string id;
    image_size size;
};

// An image of a prompt. Exceptions of its functions pass through the functions that call them.
struct image_source {
    template <class Load>
        requires std::is_invocable_r_v<mtmd::bitmap, Load>
    image_source(Load load_, std::function<std::optional<known_image>()> known_ = nullptr)
        : load(std::move(load_)), known(std::move(known_)) {}

    std::function<mtmd::bitmap()> load; // decodes it as RGB; may be called more than once
    // What load() would return, as far as it is known without decoding. May be null.
    std::function<std::optional<known_image>()> known;
};

// The pieces of an image that is decoded and prepared when they are first needed.
class late_image {
  public:
    explicit late_image(std::function<mtmd::input_chunks_ptr()> prepare)
        : prepare_(std::move(prepare)) {}

    const mtmd_input_chunk * piece(size_t i);

  private:
    std::function<mtmd::input_chunks_ptr()> prepare_;
    mtmd::input_chunks_ptr chunks_;
};

// mtmd's chunks of a prompt with images.
struct image_chunks {
    mtmd::input_chunks_ptr outline; // text, and a chunk without pixels for each piece of an image
    // the pieces in the order of the prompt, with pixels unless their image is late; owned by
    // images or outline
    std::vector<const mtmd_input_chunk *> pieces;
    std::vector<mtmd::input_chunks_ptr> images;    // null for late ones
    std::vector<std::unique_ptr<late_image>> late; // null for others
    std::vector<mtmd::input_chunk_ptr> pruned;     // of the pieces that are not read whole
    std::vector<size_t> ends; // for each image, the number of pieces up to and including its last
    std::vector<image_size> sizes; // of the images as given
};

// Tokenizes a text that contains the encoder's marker once for each image. The chunks are those
// that mtmd_tokenize() would make, but it needs all decoded images at the same time; here, images
// are decoded and prepared one after the other, so that only one is in memory at full size. Known
// ones are not decoded: many a prompt needs no more of them than their number of cells. begins:
// whether the text begins a sequence, so that it gets the tokens for that. Throws bad_argument
// "images" if the encoder rejects an image.
image_chunks make_image_chunks(const mtmd_context * mmproj, const std::string & text,
                               std::span<const image_source> images, bool begins);

// A chunk as mtmd saves it: everything except its pixels.
std::vector<char> saved_bytes(const mtmd_input_chunk * chunk);

} // namespace lookm
