#include "lookm/session/answer.h"

#include "lookm/core/bad_argument.h"
#include "lookm/core/stopwatch.h"
#include "lookm/session/exit_switch.h"

#include "common.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace lookm {

void answer::clear() {
    drop();
    from_here(false);
}

void answer::drop() {
    sampler_.reset();
    pending_.reset();
    has_chosen_ = false;
}

void answer::from_here(bool is_ready) {
    begin_ = sequence_.n_past();
    n_forgotten_ = 0;
    ready_ = is_ready;
}

void answer::start(const sampling_options & sampling, const chat_prompt * prompt) {
    const llama_vocab * vocab = sequence_.opened().vocab();
    token_sampler made(sampling, vocab, prompt);
    std::vector<llama_token> shown = prompt ? prompt->shown(vocab) : std::vector<llama_token>();
    if (!ready_) {
        throw bad_argument("start", "no prompt has been processed; call prefill first");
    }
    sampler_ = std::move(made);
    shown_ = std::move(shown);
    has_chosen_ = false;
    ready_ = false; // the prompt's logits belong to this answer
    sequence_.stats().decode_seconds = 0;
    sequence_.stats().decode_tokens = 0;
}

void answer::make_cell() {
    sized_context & context = sequence_.context();
    if (context.cap() == 0 || context.size() < context.most()) {
        const int32_t n_cells = 2 * context.size();
        if (sequence_.keeps() != sequence::turns::none) {
            sequence_.carry(n_cells);
        } else {
            context.move(n_cells);
        }
        return;
    }
    if (n_cells() == 0) {
        return; // the prompt's cells stay
    }
    // to forget half at once makes n tokens cost O(log n) holes
    const llama_pos n = std::max(1, n_cells() / 2);
    kv_cache::forget(context.get(), 0, begin_, begin_ + n);
    begin_ += n;
    n_forgotten_ += n;
}

bool answer::can_continue() const {
    const sized_context & context = sequence_.context();
    return context.cap() > 0 || sequence_.n_used() + (pending_ ? 1 : 0) <= context.limit();
}

void answer::check_goes_on() const {
    if (!sampler_) {
        throw bad_argument("next", "no answer has been started; call prefill and start first");
    }
    if (pending_ && !can_continue()) {
        throw std::runtime_error("the context is full: n_ctx " +
                                 std::to_string(sequence_.context().limit()));
    }
}

std::span<const float> answer::logits() const {
    const std::vector<float> & kept = sequence_.kept_logits();
    const auto n = static_cast<size_t>(llama_vocab_n_tokens(sequence_.opened().vocab()));
    return {kept.empty() ? llama_get_logits_ith(sequence_.context().get(), -1) : kept.data(), n};
}

std::optional<std::string> answer::next() {
    check_goes_on();
    if (pending_) {
        const stopwatch watch;
        const llama_token token = *std::exchange(pending_, std::nullopt);
        if (sequence_.n_free() <= 0) {
            make_cell();
        }
        const exit_switch at_exit(sequence_.context().get());
        sequence_.decode(&token, 1, sequence::logits_of::last);
        llama_synchronize(sequence_.context().get());
        sequence_.stats().decode_seconds += watch.seconds();
        ++sequence_.stats().decode_tokens;
    }
    const llama_vocab * vocab = sequence_.opened().vocab();
    const llama_token token = sampler_->sample(logits().data());
    has_chosen_ = true;
    if (llama_vocab_is_eog(vocab, token)) {
        sampler_.reset();
        return std::nullopt;
    }
    pending_ = token;
    const bool shows = std::find(shown_.begin(), shown_.end(), token) != shown_.end();
    return common_token_to_piece(vocab, token, shows);
}

} // namespace lookm
