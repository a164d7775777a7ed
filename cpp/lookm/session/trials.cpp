// The part of a session that tries compressions out on one prompt.

#include "lookm/core/bad_argument.h"
#include "lookm/host/log.h"
#include "lookm/prompt/text_run.h"
#include "lookm/session/prompt_copy.h"
#include "lookm/session/session.h"

#include "common.h"

#include <algorithm>
#include <stdexcept>

namespace lookm {

void session::read(const std::string & text, std::span<const image_source> images,
                   std::span<const std::string> contexts, const compression & how, int32_t n_answer,
                   const progress_fn & progress) {
    check(how);
    const prompt p = tokenize(model_.get(), mmproj_.get(), text, markers_, images, contexts);
    check_fits(p);
    compress_options options = checked(how);
    options.kind = p.kinds();
    if (through_cap(p, options, n_answer)) {
        throw bad_argument(
            "kv_cells",
            std::to_string(room_->cap()) +
                " cells do not hold the prompt whose cells are to be tried; expected at least " +
                std::to_string(p.n_cells()));
    }
    const int32_t n_room =
        std::min(n_ctx(), p.n_cells() + std::clamp(n_answer, 0, n_ctx() - p.n_cells()));
    try {
        begin(options, n_room);
        process(p, progress);
        if (room_->compressor()) {
            room_->compressor()->tap().disarm();
        }
        if (kv_cache::window_cells(room_->get()) > 0 && !options_.swa_full) {
            throw bad_argument("swa_full",
                               "false, but trials go back to the prompt's end, expected true for a "
                               "model with sliding windows");
        }
        auto copy = std::make_unique<prompt_copy>();
        copy->kind = options.kind;
        copy->n_past = n_past_;
        copy->stats = stats_;
        if (!p.chunks.back().image) {
            const float * logits = llama_get_logits_ith(room_->get(), -1);
            copy->logits.assign(logits,
                                logits + llama_vocab_n_tokens(llama_model_get_vocab(model_.get())));
        }
        forget_errors();
        copy->cells.resize(llama_state_seq_get_size(room_->get(), 0));
        const size_t n =
            llama_state_seq_get_data(room_->get(), copy->cells.data(), copy->cells.size(), 0);
        if (n == 0) {
            throw std::runtime_error("the KV cache of the prompt cannot be read out: " +
                                     last_logged_error());
        }
        copy->cells.resize(n);
        copy_ = std::move(copy);
    } catch (...) {
        abandon();
        throw;
    }
}

void session::trial(const compression & how) {
    if (!copy_) {
        throw bad_argument("trial", "no prompt has been read for trials; call read first");
    }
    check(how);
    const compressor * const reader = (read_room_ ? read_room_ : room_)->compressor();
    compress_options options = checked(how);
    options.kind = copy_->kind;
    if (reader && evicts(options) && !reader->covers(options)) {
        throw bad_argument(
            "method",
            "\"" + how.method +
                "\" takes attention that was not observed when the prompt was read; expected one "
                "with the same scorer and window");
    }
    if (!reader && evicts(options)) {
        throw bad_argument(
            "trial", "an answer has outgrown the context that the prompt was read into; expected "
                     "a larger n_answer when it is read");
    }
    std::unique_ptr<prompt_copy> copy = std::move(copy_); // clear() forgets it
    clear();
    forget_errors();
    if (llama_state_seq_set_data(room_->get(), copy->cells.data(), copy->cells.size(), 0) !=
        copy->cells.size()) {
        throw std::runtime_error("the KV cache of the prompt cannot be restored: " +
                                 last_logged_error());
    }
    copy_ = std::move(copy);
    n_past_ = copy_->n_past;
    answer_from_here();
    prompt_logits_ = copy_->logits;
    stats_ = copy_->stats;
    stats_.method = how.method;
    try {
        compress(options, {});
        if (room_->keeps_other_types()) {
            auto answering = std::make_unique<sized_context>(model_.get(), options_);
            answering->take_over(*room_, room_->size());
            stats_.bytes_used_after = answering->bytes_per_cell() * stats_.kept_cells;
            read_room_ = std::move(room_);
            room_ = std::move(answering);
        }
    } catch (...) {
        abandon();
        throw;
    }
    ready_ = !prompt_logits_.empty();
}

void session::follow(const std::string & text) {
    if (!copy_ || n_past_ < copy_->n_past) {
        throw bad_argument("follow", "no prompt has been tried; call read and trial first");
    }
    const std::vector<llama_token> tokens =
        tokenize_run(model_.get(), text, markers_.context, {}).tokens;
    if (tokens.empty()) {
        throw bad_argument("text", "it is empty, expected what is to be answered");
    }
    pending_.reset();
    sampler_.reset();
    prompt_logits_.clear();
    ready_ = false;
    if (!llama_memory_seq_rm(llama_get_memory(room_->get()), 0, copy_->n_past, -1)) {
        throw std::runtime_error("this model's memory cannot forget what came after the prompt");
    }
    n_past_ = copy_->n_past;
    const auto n = static_cast<int32_t>(tokens.size());
    if (room_->n_used().value_or(n_past_) + n > room_->size()) {
        throw bad_argument("text", std::to_string(n) +
                                       " tokens do not fit behind the prompt in a context of " +
                                       std::to_string(room_->size()) +
                                       " cells; expected less, or a larger n_answer");
    }
    for (int32_t i = 0; i < n; i += room_->n_batch()) {
        const int32_t n_now = std::min(room_->n_batch(), n - i);
        decode(tokens.data() + i, n_now, i + n_now == n);
    }
    llama_synchronize(room_->get());
    answer_from_here();
    ready_ = true;
}

std::vector<int32_t> session::tokens_of(const std::string & text) const {
    return lookm::tokens_of(llama_model_get_vocab(model_.get()), text, false);
}

std::string session::text_of(std::span<const int32_t> tokens) const {
    const llama_vocab * vocab = llama_model_get_vocab(model_.get());
    for (const int32_t token : tokens) {
        if (token < 0 || token >= llama_vocab_n_tokens(vocab)) {
            throw bad_argument("tokens", std::to_string(token) + " is none of the vocabulary's " +
                                             std::to_string(llama_vocab_n_tokens(vocab)));
        }
    }
    return common_detokenize(vocab, {tokens.begin(), tokens.end()}, false);
}

} // namespace lookm
