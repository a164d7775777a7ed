#pragma once

#include "lookm/core/compression.h"
#include "lookm/prompt/prompt.h"

#include <cstdint>
#include <functional>
#include <span>
#include <string>

namespace lookm {

enum class phase { encode, prefill, compress };

// Called between steps, and ten times a second within long ones. What it throws stops the work and
// is rethrown to the caller; the session is empty then.
using progress_fn = std::function<void(phase, int done, int total)>;

// One prompt, and how to read it.
struct prompt_request {
    std::string text;                     // with one marker for each image and for each context
    std::span<const image_source> images; // in the order of their markers
    std::span<const std::string> contexts;
    compression how;
    int32_t n_answer = 0; // cells to have ready for the answer
    progress_fn progress = {};
    bool explain = false; // keep what became of each cell; session::prefill alone can
    bool reuse = false; // go on from an earlier prompt's beginning, and keep this one's (prefixes)
};

} // namespace lookm
