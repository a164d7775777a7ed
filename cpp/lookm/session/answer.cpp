// The part of a session that answers: sampler and decode loop.

#include "lookm/core/bad_argument.h"
#include "lookm/core/stopwatch.h"
#include "lookm/host/at_work.h"
#include "lookm/session/session.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace lookm {

namespace {

constexpr int32_t n_penalized =
    64; // the last tokens that repetition penalties look at, llama.cpp's default

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

// While it lives, a graph of the context ends before its next node once work is to stop.
class exit_switch {
  public:
    explicit exit_switch(llama_context * ctx) : ctx_(ctx) {
        llama_set_abort_callback(ctx, [](void *) { return work_is_stopped(); }, nullptr);
    }
    ~exit_switch() { llama_set_abort_callback(ctx_, nullptr, nullptr); }
    exit_switch(const exit_switch &) = delete;
    exit_switch & operator=(const exit_switch &) = delete;

  private:
    llama_context * ctx_;
};

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

void session::start(const sampling_options & s) {
    check_sampling(s);
    if (!ready_) {
        throw bad_argument("start", "no prompt has been processed; call prefill first");
    }
    llama_sampler_ptr chain{llama_sampler_chain_init(llama_sampler_chain_default_params())};
    const auto add = [&](llama_sampler * one) { llama_sampler_chain_add(chain.get(), one); };
    const llama_vocab * vocab = llama_model_get_vocab(model_.get());
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
    sampler_ = std::move(chain);
    ready_ = false; // the prompt's logits belong to this answer
    stats_.decode_seconds = 0;
    stats_.decode_tokens = 0;
}

bool session::full() const {
    // without cells to count, positions bound them
    const int32_t cap = room_->cap() ? room_->cap() : room_->size();
    return room_->n_used().value_or(n_past_) >= std::min(room_->size(), cap);
}

void session::make_cell() {
    if (room_->cap() == 0 || room_->size() < room_->most()) {
        talking_ ? carry(2 * room_->size()) : room_->move(2 * room_->size());
        return;
    }
    if (answer_pos_ == n_past_) {
        return; // the prompt's cells stay
    }
    // to forget half at once makes n tokens cost O(log n) holes
    const llama_pos n = std::max(1, (n_past_ - answer_pos_) / 2);
    kv_cache::forget(room_->get(), 0, answer_pos_, answer_pos_ + n);
    answer_pos_ += n;
    n_forgotten_ += n;
}

void session::answer_from_here() {
    answer_pos_ = n_past_;
    n_forgotten_ = 0;
}

bool session::can_continue() const {
    return room_->cap() > 0 || room_->n_used().value_or(n_past_) + (pending_ ? 1 : 0) <= n_ctx();
}

llama_token session::sample() {
    if (prompt_logits_.empty()) {
        return llama_sampler_sample(sampler_.get(), room_->get(), -1);
    }
    std::vector<llama_token_data> tokens;
    for (const float logit : prompt_logits_) {
        tokens.push_back({static_cast<llama_token>(tokens.size()), logit, 0.0f});
    }
    prompt_logits_.clear();
    llama_token_data_array candidates = {tokens.data(), tokens.size(), -1, false};
    llama_sampler_apply(sampler_.get(), &candidates);
    const llama_token token = candidates.data[candidates.selected].id;
    llama_sampler_accept(sampler_.get(), token);
    return token;
}

std::optional<std::string> session::next() {
    if (!sampler_) {
        throw bad_argument("next", "no answer has been started; call prefill and start first");
    }
    if (pending_) {
        if (!can_continue()) {
            throw std::runtime_error("the context is full: n_ctx " + std::to_string(n_ctx()));
        }
        const stopwatch watch;
        const llama_token token = *pending_;
        pending_.reset();
        try {
            if (full()) {
                make_cell();
            }
            const exit_switch at_exit(room_->get());
            decode(&token, 1, true);
        } catch (...) { // the context may be gone
            abandon();
            throw;
        }
        llama_synchronize(room_->get());
        stats_.decode_seconds += watch.seconds();
        ++stats_.decode_tokens;
    }
    const llama_vocab * vocab = llama_model_get_vocab(model_.get());
    const llama_token token = sample();
    if (llama_vocab_is_eog(vocab, token)) {
        sampler_.reset();
        return std::nullopt;
    }
    pending_ = token;
    std::string piece(64, '\0');
    int32_t n = llama_token_to_piece(vocab, token, piece.data(), static_cast<int32_t>(piece.size()),
                                     0, false);
    if (n < 0) {
        piece.resize(-n);
        n = llama_token_to_piece(vocab, token, piece.data(), static_cast<int32_t>(piece.size()), 0,
                                 false);
    }
    piece.resize(std::max(n, 0));
    return piece;
}

} // namespace lookm
