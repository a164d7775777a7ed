#pragma once

#include "llama-cpp.h"

#include <cstdint>

namespace lookm {

// How the tokens of an answer are chosen; names and meanings are llama.cpp's.
struct sampling_options {
    float temperature = 0.2f; // 0: greedy
    float top_p = 0.95f;
    int32_t top_k = 40;
    float min_p = 0.05f;
    float repeat_penalty = 1.0f;
    float frequency_penalty = 0.0f;
    float presence_penalty = 0.0f;
    uint32_t seed = LLAMA_DEFAULT_SEED;
    bool ignore_eos = false; // no token ends the answer
};

void check_sampling(const sampling_options & sampling); // throws bad_argument

// Throws as check_sampling does.
llama_sampler_ptr make_sampler(const sampling_options & sampling, const llama_vocab * vocab);

// Chooses among logits that are not in a context any more: one for each token of the vocabulary.
llama_token sample_from(llama_sampler * sampler, const float * logits, int32_t n_vocab);

} // namespace lookm
