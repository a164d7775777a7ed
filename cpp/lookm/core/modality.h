#pragma once

#include <cstdint>
#include <string>

namespace lookm {

// Cells by what they were made from. A context is text that may be evicted as an image may.
struct cell_counts {
    int32_t text = 0, image = 0, context = 0;

    int32_t all() const { return text + image + context; }
};

// Which modality a compression starves: one that keeps less than a tenth of the cells that an even
// share of the kept ones would be. "" for none. Where text comes first, a small budget leaves
// images nothing; where scores alone count, text may go.
//
// Example: of 61 text and 586 image cells 61 and 4 are kept; 65 * 586 / 647 = 58.9 would be even,
// so images starve.
std::string starved(const cell_counts & prompt, const cell_counts & kept);

} // namespace lookm
