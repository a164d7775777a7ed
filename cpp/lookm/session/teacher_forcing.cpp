#include "lookm/session/teacher_forcing.h"

#include "lookm/core/bad_argument.h"
#include "lookm/host/memory_room.h"
#include "lookm/session/checks.h"
#include "lookm/session/exit_switch.h"

#include <algorithm>
#include <cmath>
#include <string>

namespace lookm {

namespace {

// llama.cpp holds the logits of a whole batch: 19 MiB of 32 tokens of a vocabulary of 152k.
constexpr int32_t n_at_once = 32;

} // namespace

void log_softmax(std::span<const float> logits, std::span<float> out) {
    const float most = *std::max_element(logits.begin(), logits.end());
    double sum = 0.0;
    for (const float x : logits) {
        sum += std::exp(static_cast<double>(x) - most);
    }
    const double shift = most + std::log(sum);
    std::transform(logits.begin(), logits.end(), out.begin(),
                   [&](float x) { return static_cast<float>(x - shift); });
}

size_t teacher_forcing::n_vocab() const {
    return static_cast<size_t>(llama_vocab_n_tokens(sequence_.opened().vocab()));
}

void teacher_forcing::check(std::span<const llama_token> tokens) const {
    check_tokens(tokens, static_cast<int32_t>(n_vocab()));
    const sized_context & context = sequence_.context();
    const int32_t n_left = (context.cap() ? context.cap() : context.limit()) - sequence_.n_used();
    if (static_cast<int64_t>(tokens.size()) > n_left) {
        throw bad_argument("tokens",
                           std::to_string(tokens.size()) +
                               " of them do not fit behind the prompt; expected at most " +
                               std::to_string(n_left));
    }
    check_room("the distributions after " + std::to_string(tokens.size()) + " tokens",
               {tokens.size() * n_vocab() * sizeof(float)});
}

std::vector<float> teacher_forcing::read(std::span<const llama_token> tokens) {
    sized_context & context = sequence_.context();
    std::vector<float> found(tokens.size() * n_vocab());
    if (!prompt_) {
        const bool forgets = kv_cache::memory_type(context.get()) == "kv_cache";
        prompt_ = {sequence_.n_past(), sequence_.kept_logits(),
                   forgets ? std::vector<uint8_t>() : context.sequence()};
        if (prompt_->logits.empty()) {
            prompt_->logits = sequence_.logits();
        }
    }
    const auto n_new = static_cast<int32_t>(tokens.size());
    if (n_new > sequence_.n_free()) {
        context.move(sequence_.n_used() + n_new);
    }
    const exit_switch at_exit(context.get());
    for (size_t i = 0; i < tokens.size();) {
        const auto n_left = static_cast<int32_t>(tokens.size() - i);
        const int32_t n = std::min({n_left, n_at_once, context.n_batch()});
        sequence_.decode(tokens.data() + i, n, sequence::logits_of::all);
        for (int32_t row = 0; row < n; ++row, ++i) {
            log_softmax({llama_get_logits_ith(context.get(), row), n_vocab()},
                        std::span(found).subspan(i * n_vocab(), n_vocab()));
        }
    }
    return found;
}

void teacher_forcing::go_back() {
    if (!prompt_) {
        return;
    }
    sized_context & context = sequence_.context();
    if (prompt_->cells.empty()) {
        llama_memory_seq_rm(llama_get_memory(context.get()), 0, prompt_->n_past, -1);
    } else {
        context.refill(prompt_->cells);
    }
    sequence_.set_n_past(prompt_->n_past);
    sequence_.keep_logits(std::move(prompt_->logits));
    prompt_.reset();
}

} // namespace lookm
