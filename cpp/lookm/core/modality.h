#pragma once

#include <cstdint>
#include <string>

namespace lookm {

// Numbers of cells by what they were made from. A context is text that may be evicted like an
// image.
struct cell_counts {
    int32_t text = 0, image = 0, context = 0;

    int32_t all() const { return text + image + context; }
};

// A sentence for the user about the first of images, text and contexts that a compression starves:
// it keeps less than a tenth of what it would keep if all kinds kept the same fraction. "" if none
// is starved. With the text prior, a small budget may leave nothing for images; if scores alone
// count, text may be lost.
//
// Example: of 61 text and 586 image cells, 61 and 4 are kept. An even share for images would be
// 65 * 586 / 647 = 58.9, so images are starved.
std::string starved(const cell_counts & prompt, const cell_counts & kept);

} // namespace lookm
