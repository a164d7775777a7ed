#pragma once

// Included before the first line of mtmd.cpp (llama_cpp.cmake), so that it calls clip_init() for an
// encoder without weights while lookm::encoder_no_alloc is set. mtmd's public functions offer that
// for its memory only, not for its tokens.

#include "clip.h"

#include "lookm/model/encoder_no_alloc.h"

namespace lookm {

inline clip_context_params without_weights_if_asked(clip_context_params params) {
    params.no_alloc = params.no_alloc || encoder_no_alloc;
    return params;
}

} // namespace lookm

#define clip_init(file, params) clip_init(file, lookm::without_weights_if_asked(params))
