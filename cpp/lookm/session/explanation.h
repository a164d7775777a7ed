#pragma once

#include "lookm/cache/compressor.h"
#include "lookm/prompt/image_places.h"
#include "lookm/session/opened_model.h"

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace lookm {

// One cell of a prompt.
struct explained_cell {
    token_kind kind;    // image: an image's or a context's, which may be evicted
    int32_t piece = -1; // index into explanation::pieces; -1 for text, a context's too
    std::array<int32_t, 2> place{-1, -1}; // column and row in the piece's grid
    std::string text; // of its token, control tokens by name; possibly half a UTF-8 character
};

// What happened to one layer's cells.
struct explained_layer {
    int32_t il; // its number in the model
    int32_t n_head_kv;
    std::vector<int32_t> kept; // [n_head_kv, n_keep] ascending
    // [n_head_kv, n_cells] the kept cell that an evicted one was merged into, or -1
    std::vector<int32_t> merged_into;
    std::vector<float> score; // [n_head_kv, n_cells] what cells were ranked by
};

// What happened to each cell of the last prompt, in the order of its tokens.
struct explanation {
    std::vector<image_piece> pieces; // with the places of the cells that were read
    std::vector<explained_cell> cells;
    std::vector<explained_layer> layers; // empty if nothing was compressed

    void take(compress_result && result, std::span<const kv_layer> layers);
};

// A prompt's cells and their places in images; take() adds the layers. cells_read: which cells of a
// pruned image's chunk were read.
explanation
explain_prompt(const opened_model & opened, const prompt & p,
               const std::function<std::vector<int32_t>(const prompt_chunk &)> & cells_read);

} // namespace lookm
