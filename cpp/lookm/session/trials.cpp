#include "lookm/session/trials.h"

#include "lookm/core/bad_argument.h"
#include "lookm/prompt/text_run.h"
#include "lookm/session/checks.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace lookm {

void trials::keep(const std::vector<token_kind> & kind, bool ends_with_image) {
    const sized_context & context = sequence_.context();
    if (context.compressor()) {
        context.compressor()->tap().disarm();
    }
    if (kv_cache::window_cells(context.get()) > 0 && !sequence_.opened().options.swa_full) {
        throw bad_argument("swa_full", "false, but trials go back to the prompt's end, expected "
                                       "true for a model with sliding windows");
    }
    auto made = std::make_unique<copy>();
    made->kind = kind;
    made->n_past = sequence_.n_past();
    made->stats = sequence_.stats();
    if (!ends_with_image) {
        made->logits = sequence_.logits();
    }
    made->cells = context.sequence();
    made->made_from = context.kinds();
    copy_ = std::move(made);
}

void trials::give_context_back() {
    if (read_context_) {
        sequence_.exchange(std::move(read_context_));
    }
}

void trials::forget() {
    give_context_back();
    copy_.reset();
}

void trials::clear_all_but_copy() {
    give_context_back();
    sequence_.clear();
    answer_.clear();
}

void trials::check(const compression & how) const {
    if (!copy_) {
        throw bad_argument("trial", "no prompt has been read for trials; call read first");
    }
    const sized_context & context = read_context_ ? *read_context_ : sequence_.context();
    const compressor * const reader = context.compressor();
    check_supported(how, context.unsupported());
    compress_options options = checked(how);
    options.kind = copy_->kind;
    if (reader && evicts(options) && !reader->covers(options)) {
        throw bad_argument("method",
                           "\"" + how.method +
                               "\" takes attention that was not observed when the prompt was read; "
                               "expected one with the same scorer and window");
    }
    if (!reader && evicts(options)) {
        throw bad_argument("trial", "an answer has outgrown the context that the prompt was read "
                                    "into; expected a larger n_answer when it is read");
    }
}

void trials::run(const compression & how) {
    sized_context & context = sequence_.context();
    context.refill(copy_->cells, copy_->made_from);
    sequence_.set_n_past(copy_->n_past);
    sequence_.stats() = copy_->stats;
    sequence_.stats().method = how.method;
    answer_.from_here(false);
    compress_options options = checked(how);
    options.kind = copy_->kind;
    sequence_.compress(options, {});
    if (context.keeps_other_types()) {
        const opened_model & opened = sequence_.opened();
        auto answering = std::make_unique<sized_context>(opened.weights.get(), opened.options);
        answering->take_over(context, context.size());
        sequence_.stats().bytes_used_after =
            answering->bytes_per_cell() * sequence_.stats().kept_cells;
        read_context_ = sequence_.exchange(std::move(answering));
    }
    sequence_.keep_logits(copy_->logits);
    answer_.from_here(!copy_->logits.empty());
}

void trials::follow(const std::string & text) {
    if (!copy_ || sequence_.n_past() < copy_->n_past) {
        throw bad_argument("follow", "no prompt has been tried; call read and trial first");
    }
    const opened_model & opened = sequence_.opened();
    const std::vector<llama_token> tokens =
        tokenize_run(opened.weights.get(), text, opened.markers.context, {}).tokens;
    if (tokens.empty()) {
        throw bad_argument("text", "it is empty, expected what is to be answered");
    }
    answer_.clear();
    sized_context & context = sequence_.context();
    if (!llama_memory_seq_rm(llama_get_memory(context.get()), 0, copy_->n_past, -1)) {
        throw std::runtime_error("this model's memory cannot forget what came after the prompt");
    }
    sequence_.set_n_past(copy_->n_past);
    sequence_.keep_logits({});
    const auto n = static_cast<int32_t>(tokens.size());
    if (sequence_.n_used() + n > context.size()) {
        throw bad_argument("text", std::to_string(n) +
                                       " tokens do not fit behind the prompt in a context of " +
                                       std::to_string(context.size()) +
                                       " cells; expected less, or a larger n_answer");
    }
    for (int32_t i = 0; i < n; i += context.n_batch()) {
        const int32_t n_now = std::min(context.n_batch(), n - i);
        sequence_.decode(tokens.data() + i, n_now,
                         i + n_now == n ? sequence::logits_of::last : sequence::logits_of::none);
    }
    llama_synchronize(context.get());
    answer_.from_here(true);
}

} // namespace lookm
