#pragma once

#include "lookm/core/compression.h"

#include <cstdint>
#include <optional>
#include <span>

namespace lookm {

// Which cells of an image the language model reads; the image encoder makes all of them.
//   none       all
//   divprune   diverse ones (DivPrune, arXiv 2503.02175)
//   cdpruner   diverse ones that have to do with the question (CDPruner, arXiv 2506.10967)
//   grid       even over the image
//   random     any
enum class pruner { none, divprune, cdpruner, grid, random };

struct pruner_row {
    const char * name;
    enum pruner pruner;
    bool asks_question; // so that what is read of an image depends on the question about it
};
std::span<const pruner_row> pruners(); // none is first

// How many cells of an image are read, and which.
struct pruning {
    pruner_row by = pruners().front();
    double image_ratio = 1.0;                // of the cells of each piece of an image
    std::optional<int32_t> image_cells = {}; // of each image, shared by its pieces; replaces it
    uint32_t seed = 0;                       // of the pruner random

    bool on() const { return by.pruner != pruner::none && (image_ratio < 1.0 || image_cells); }
    bool asks_question() const { return on() && by.asks_question; }
};

// Throws bad_argument for an unknown pruner, an image_ratio outside (0, 1], image_cells below 1,
// and both of them at once.
pruning pruning_of(const compression & c);

// Of n cells of a piece of an image with n_image cells, how many are read: at least 1, and a
// multiple of step.
int32_t n_read(const pruning & p, int32_t n, int32_t n_image, int32_t step);

} // namespace lookm
