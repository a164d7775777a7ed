#include "lookm/session/answer.h"

#include "lookm/core/bad_argument.h"
#include "lookm/core/stopwatch.h"
#include "lookm/session/exit_switch.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace lookm {

namespace {

std::string text_of(const llama_vocab * vocab, llama_token token) {
    std::string piece(64, '\0');
    const auto convert = [&] {
        return llama_token_to_piece(vocab, token, piece.data(), static_cast<int32_t>(piece.size()),
                                    0, false);
    };
    int32_t n = convert();
    if (n < 0) {
        piece.resize(-n);
        n = convert();
    }
    piece.resize(std::max(n, 0));
    return piece;
}

} // namespace

void answer::clear() {
    drop();
    from_here(false);
}

void answer::drop() {
    sampler_.reset();
    pending_.reset();
}

void answer::from_here(bool is_ready) {
    begin_ = sequence_.n_past();
    n_forgotten_ = 0;
    ready_ = is_ready;
}

void answer::start(const sampling_options & sampling) {
    token_sampler made(sampling, sequence_.opened().vocab());
    if (!ready_) {
        throw bad_argument("start", "no prompt has been processed; call prefill first");
    }
    sampler_ = std::move(made);
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

llama_token answer::sample() {
    const std::vector<float> & logits = sequence_.kept_logits();
    return sampler_->sample(logits.empty() ? llama_get_logits_ith(sequence_.context().get(), -1)
                                           : logits.data());
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
    const llama_token token = sample();
    if (llama_vocab_is_eog(vocab, token)) {
        sampler_.reset();
        return std::nullopt;
    }
    pending_ = token;
    return text_of(vocab, token);
}

} // namespace lookm
