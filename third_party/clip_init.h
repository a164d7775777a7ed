#pragma once

// Seen by mtmd.cpp before its first line (llama_cpp.cmake): it asks clip_init() for an encoder without weights while
// lookm::encoder_no_alloc is set. mtmd's public calls have that choice for its memory alone, not for its tokens.

#include "clip.h"

#include "lookm/model/encoder_no_alloc.h"

namespace lookm {

inline clip_context_params lead(clip_context_params params) {
    params.no_alloc = params.no_alloc || encoder_no_alloc;
    return params;
}

} // namespace lookm

#define clip_init(file, params) clip_init(file, lookm::lead(params))
