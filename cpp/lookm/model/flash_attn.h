#pragma once

#include "lookm/model/model.h"

namespace lookm {

// Whether flash_attn "auto" is to mean off for prompts that are scored by all their queries
// (options.scored), and for a quantized K: on a CPU alone, with a V type that allows it, and where
// the probabilities that llama.cpp then holds, n_ubatch x n_head floats a cell, are at most a
// quarter of K and V.
//
// Over a quantized K llama.cpp's kernel of flash attention takes queries one by one, its matrix
// product many at once.
//
// There the probabilities exist already and only their columns are added up, instead of one more
// QK^T; with AVX2 llama.cpp's own prefill and decode are no slower without flash attention either.
// With AVX-512 and AMX a scored prefill takes 1.04 to 1.07 times as long without it
// (benchmarks/README.md).
bool better_without_flash(llama_model * model, const model_options & options);

} // namespace lookm
