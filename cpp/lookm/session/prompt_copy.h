#pragma once

#include "lookm/session/session.h"

#include <cstdint>
#include <vector>

namespace lookm {

// A prompt as it was read: what a trial begins with.
struct session::prompt_copy {
    std::vector<uint8_t> cells;   // the sequence in llama.cpp's own form
    std::vector<token_kind> kind; // of each cell
    std::vector<float> logits;    // of the last token; empty after an image
    llama_pos n_past = 0;
    session_stats stats;
};

} // namespace lookm
