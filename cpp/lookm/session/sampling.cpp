#include "lookm/session/sampling.h"

#include "lookm/core/bad_argument.h"

#include <cmath>
#include <string>
#include <vector>

namespace lookm {

namespace {

// The last tokens that repetition penalties look at: llama.cpp's default
constexpr int32_t n_penalized = 64;

// Takes every token that ends an answer out of the choice.
llama_sampler * never_ending(const llama_vocab * vocab) {
    std::vector<llama_logit_bias> ends;
    for (llama_token token = 0; token < llama_vocab_n_tokens(vocab); ++token) {
        if (llama_vocab_is_eog(vocab, token)) {
            ends.push_back({token, -INFINITY});
        }
    }
    return llama_sampler_init_logit_bias(llama_vocab_n_tokens(vocab),
                                         static_cast<int32_t>(ends.size()), ends.data());
}

} // namespace

void check_sampling(const sampling_options & s) {
    const auto check = [](const char * argument, float value, bool ok, const char * expected) {
        if (!ok || !std::isfinite(value)) {
            throw bad_argument(argument,
                               std::to_string(value) + " is out of range; expected " + expected);
        }
    };
    check("temperature", s.temperature, s.temperature >= 0.0f, "0 (greedy) or more");
    check("top_p", s.top_p, s.top_p > 0.0f && s.top_p <= 1.0f, "(0, 1]");
    check("min_p", s.min_p, s.min_p >= 0.0f && s.min_p <= 1.0f, "[0, 1]");
    check("repeat_penalty", s.repeat_penalty, s.repeat_penalty > 0.0f, "more than 0");
    check("frequency_penalty", s.frequency_penalty, true, "a finite number");
    check("presence_penalty", s.presence_penalty, true, "a finite number");
}

llama_sampler_ptr make_sampler(const sampling_options & s, const llama_vocab * vocab) {
    check_sampling(s);
    llama_sampler_ptr chain{llama_sampler_chain_init(llama_sampler_chain_default_params())};
    const auto add = [&](llama_sampler * one) { llama_sampler_chain_add(chain.get(), one); };
    if (s.ignore_eos) {
        add(never_ending(vocab));
    }
    add(llama_sampler_init_penalties(llama_vocab_n_tokens(vocab), n_penalized, s.repeat_penalty,
                                     s.frequency_penalty, s.presence_penalty));
    if (s.temperature <= 0.0f) {
        add(llama_sampler_init_greedy());
    } else {
        add(llama_sampler_init_top_k(s.top_k));
        add(llama_sampler_init_top_p(s.top_p, 1));
        add(llama_sampler_init_min_p(s.min_p, 1));
        add(llama_sampler_init_temp(s.temperature));
        add(llama_sampler_init_dist(s.seed));
    }
    return chain;
}

llama_token sample_from(llama_sampler * sampler, const float * logits, int32_t n_vocab) {
    std::vector<llama_token_data> tokens;
    for (llama_token token = 0; token < n_vocab; ++token) {
        tokens.push_back({token, logits[token], 0.0f});
    }
    llama_token_data_array candidates = {tokens.data(), tokens.size(), -1, false};
    llama_sampler_apply(sampler, &candidates);
    const llama_token token = candidates.data[candidates.selected].id;
    llama_sampler_accept(sampler, token);
    return token;
}

} // namespace lookm
