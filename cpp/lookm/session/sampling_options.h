#pragma once

#include "llama.h"

#include <cstdint>
#include <map>
#include <string>

namespace lookm {

// How the tokens of an answer are chosen; names and meanings are llama.cpp's.
struct sampling_options {
    float temperature = 0.2f; // 0: greedy
    float top_p = 0.95f;
    int64_t top_k = 40; // one that does not fit llama.cpp's type leaves all tokens
    float min_p = 0.05f;
    float typical_p = 1.0f;
    float repeat_penalty = 1.0f;
    float frequency_penalty = 0.0f;
    float presence_penalty = 0.0f;
    int32_t mirostat_mode = 0; // 1 or 2: instead of top_k, top_p, min_p and typical_p
    float mirostat_tau = 5.0f;
    float mirostat_eta = 0.1f;
    std::map<int32_t, float> logit_bias; // of tokens; added to their logits
    std::string grammar;                 // GBNF with a rule root; "": none
    std::string json_schema;             // instead of a grammar; "": none
    uint32_t seed = LLAMA_DEFAULT_SEED;
    bool ignore_eos = false; // no token ends the answer
};

// Calls visit(name, pointer to member) for each field.
template <class Visit>
void for_each_field(const sampling_options * /*unused*/, Visit && visit) {
    visit("temperature", &sampling_options::temperature);
    visit("top_p", &sampling_options::top_p);
    visit("top_k", &sampling_options::top_k);
    visit("min_p", &sampling_options::min_p);
    visit("typical_p", &sampling_options::typical_p);
    visit("repeat_penalty", &sampling_options::repeat_penalty);
    visit("frequency_penalty", &sampling_options::frequency_penalty);
    visit("presence_penalty", &sampling_options::presence_penalty);
    visit("mirostat_mode", &sampling_options::mirostat_mode);
    visit("mirostat_tau", &sampling_options::mirostat_tau);
    visit("mirostat_eta", &sampling_options::mirostat_eta);
    visit("logit_bias", &sampling_options::logit_bias);
    visit("grammar", &sampling_options::grammar);
    visit("json_schema", &sampling_options::json_schema);
    visit("seed", &sampling_options::seed);
    visit("ignore_eos", &sampling_options::ignore_eos);
}

} // namespace lookm
