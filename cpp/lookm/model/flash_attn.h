#pragma once

#include "lookm/model/model.h"

namespace lookm {

// Whether flash_attn "auto" should mean off. That is so if all of these hold:
//   - prompts are scored by all their queries (options.scored), or K is quantized
//   - the model runs on a CPU only
//   - V has a type that allows it (f32, f16 or bf16)
//   - the probabilities that llama.cpp then holds, n_ubatch * n_head floats per cell, take at
//     most a quarter of the bytes of K and V
//
// Scored prompts: without flash attention the probabilities exist already, so scoring only adds up
// their columns instead of computing QK^T again. With AVX2, llama.cpp's own prefill and decoding
// are no slower without flash attention; with AVX-512 and AMX a scored prefill takes 1.04 to 1.07
// times as long (benchmarks/README.md).
//
// Quantized K: llama.cpp's flash attention on a CPU processes queries one by one, its matrix
// product many at a time.
bool better_without_flash(llama_model * model, const model_options & options);

} // namespace lookm
