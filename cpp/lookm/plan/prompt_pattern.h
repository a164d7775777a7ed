#pragma once

#include "lookm/core/prompt_cap.h"
#include "lookm/prompt/prompt.h"

#include <cstdint>
#include <vector>

namespace lookm {

constexpr int32_t most_planned = 1 << 20; // images, and cells of a prompt with its answer

// The cells of a prompt about any number of images of one size, learnt from the prompt about one
// image and the prompt about two.
class prompt_pattern {
  public:
    prompt_pattern(const prompt & one, const prompt & two);

    std::vector<token_kind> kinds(int32_t n_images) const; // in token order; n_images >= 1
    // Images, or their tiles, and the text between them.
    std::vector<prompt_part> parts(int32_t n_images) const;
    int64_t n_cells(int32_t n_images) const;
    int32_t most_images(int32_t n_cells) const; // whose prompt has no more than n_cells

    int32_t image_cells = 0;   // of each image that are read
    int32_t encoded_cells = 0; // of each image that the encoder makes
    int32_t mark_cells = 0;    // text that comes with each image
    int32_t n_tiles = 0;       // pieces of each image that the encoder sees
    bool whole = false;        // whether each must be read at once

  private:
    struct segment {
        std::vector<token_kind> kinds;
        std::vector<int32_t> parts; // cells of each
    };
    std::vector<const segment *> segments(int32_t n_images) const;

    segment before_, each_, after_; // up to the end of the first image, each further one, the rest
};

} // namespace lookm
