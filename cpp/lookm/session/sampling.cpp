#include "lookm/session/sampling.h"

#include "lookm/core/bad_argument.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>

namespace lookm {

namespace {

// The last tokens that repetition penalties look at: llama.cpp's default
constexpr int32_t n_penalized = 64;
// Mirostat 1 estimates from so many tokens: its paper's and llama.cpp's default
constexpr int32_t n_mirostat = 100;

void check(const sampling_options & s, int32_t n_vocab) {
    const auto check = [](const char * argument, double value, bool ok, const char * expected) {
        if (!ok || !std::isfinite(value)) {
            throw bad_argument(argument,
                               std::to_string(value) + " is out of range; expected " + expected);
        }
    };
    check("temperature", s.temperature, s.temperature >= 0.0f, "0 (greedy) or more");
    check("top_p", s.top_p, s.top_p > 0.0f && s.top_p <= 1.0f, "(0, 1]");
    check("min_p", s.min_p, s.min_p >= 0.0f && s.min_p <= 1.0f, "[0, 1]");
    check("typical_p", s.typical_p, s.typical_p > 0.0f && s.typical_p <= 1.0f, "(0, 1]");
    check("repeat_penalty", s.repeat_penalty, s.repeat_penalty > 0.0f, "more than 0");
    check("frequency_penalty", s.frequency_penalty, true, "a finite number");
    check("presence_penalty", s.presence_penalty, true, "a finite number");
    check("mirostat_tau", s.mirostat_tau, s.mirostat_tau >= 0.0f, "0 or more");
    check("mirostat_eta", s.mirostat_eta, s.mirostat_eta >= 0.0f, "0 or more");
    if (s.mirostat_mode < 0 || s.mirostat_mode > 2) {
        throw bad_argument("mirostat_mode",
                           std::to_string(s.mirostat_mode) + ", expected 0 (off), 1 or 2");
    }
    for (const auto & [token, bias] : s.logit_bias) {
        if (token < 0 || token >= n_vocab) {
            throw bad_argument("logit_bias", "there is no token " + std::to_string(token) +
                                                 "; expected tokens below " +
                                                 std::to_string(n_vocab));
        }
        if (!(bias < INFINITY)) { // -inf takes a token out of the choice
            throw bad_argument("logit_bias", "that of token " + std::to_string(token) + " is " +
                                                 std::to_string(bias) +
                                                 "; expected a number or -inf");
        }
    }
    if (!s.grammar.empty() && !s.json_schema.empty()) {
        throw bad_argument("grammar", "it is given beside a schema (response_format), expected "
                                      "one of them");
    }
}

// Added to logits: what the user asks for, and, if no token may end the answer, -inf for those.
std::vector<llama_logit_bias> biases_of(const sampling_options & s, const llama_vocab * vocab) {
    std::vector<llama_logit_bias> found;
    for (const auto & [token, bias] : s.logit_bias) {
        found.push_back({token, bias});
    }
    for (llama_token token = 0; s.ignore_eos && token < llama_vocab_n_tokens(vocab); ++token) {
        if (llama_vocab_is_eog(vocab, token)) {
            found.push_back({token, -INFINITY});
        }
    }
    return found;
}

llama_sampler_ptr chain_of(const sampling_options & s, const llama_vocab * vocab) {
    const int32_t n_vocab = llama_vocab_n_tokens(vocab);
    llama_sampler_ptr chain{llama_sampler_chain_init(llama_sampler_chain_default_params())};
    const auto add = [&](llama_sampler * one) { llama_sampler_chain_add(chain.get(), one); };
    if (const std::vector<llama_logit_bias> biases = biases_of(s, vocab); !biases.empty()) {
        add(llama_sampler_init_logit_bias(n_vocab, static_cast<int32_t>(biases.size()),
                                          biases.data()));
    }
    add(llama_sampler_init_penalties(n_vocab, n_penalized, s.repeat_penalty, s.frequency_penalty,
                                     s.presence_penalty));
    if (s.temperature <= 0.0f) {
        add(llama_sampler_init_greedy());
        return chain;
    }
    if (s.mirostat_mode > 0) {
        add(llama_sampler_init_temp(s.temperature));
        add(s.mirostat_mode == 1
                ? llama_sampler_init_mirostat(n_vocab, s.seed, s.mirostat_tau, s.mirostat_eta,
                                              n_mirostat)
                : llama_sampler_init_mirostat_v2(s.seed, s.mirostat_tau, s.mirostat_eta));
        return chain;
    }
    constexpr int64_t most = std::numeric_limits<int32_t>::max();
    add(llama_sampler_init_top_k(static_cast<int32_t>(std::clamp<int64_t>(s.top_k, -1, most))));
    add(llama_sampler_init_typical(s.typical_p, 1));
    add(llama_sampler_init_top_p(s.top_p, 1));
    add(llama_sampler_init_min_p(s.min_p, 1));
    add(llama_sampler_init_temp(s.temperature));
    add(llama_sampler_init_dist(s.seed));
    return chain;
}

} // namespace

token_sampler::token_sampler(const sampling_options & sampling, const llama_vocab * vocab,
                             const chat_prompt * prompt) {
    check(sampling, llama_vocab_n_tokens(vocab));
    chain_ = chain_of(sampling, vocab);
    grammar_ = answer_grammar::of(sampling, vocab, prompt);
    tokens_.resize(llama_vocab_n_tokens(vocab));
}

void token_sampler::fill(const float * logits) {
    for (size_t i = 0; i < tokens_.size(); ++i) {
        tokens_[i] = {static_cast<llama_token>(i), logits[i], 0.0f};
    }
}

llama_token token_sampler::sample(const float * logits) {
    const auto choose = [&](bool by_grammar) {
        fill(logits);
        llama_token_data_array candidates = {tokens_.data(), tokens_.size(), -1, false};
        if (by_grammar) {
            grammar_->apply(candidates);
        }
        llama_sampler_apply(chain_.get(), &candidates);
        if (candidates.selected < 0) {
            throw std::runtime_error("logit_bias: it leaves no token to choose");
        }
        return candidates.data[candidates.selected].id;
    };
    llama_token token = choose(false);
    if (grammar_) {
        // to ask about one token is much quicker than to ask about all of them
        if (!grammar_->allows(token) && !grammar_->allows(token = choose(true))) {
            throw std::runtime_error("grammar: no token of the model continues the answer");
        }
        grammar_->accept(token);
    }
    llama_sampler_accept(chain_.get(), token);
    return token;
}

} // namespace lookm
