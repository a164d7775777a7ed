#include "lookm/server/compressed_prompts.h"

#include "lookm/host/memory_room.h"

#include "llama.h"

#include <algorithm>
#include <utility>

namespace lookm::server {

namespace {

// Of the token that was decoded last; null with samplers that run on the device.
float * last_logits(llama_context * ctx) {
    return llama_get_logits_ith(ctx, -1);
}

size_t n_logits(const llama_context * ctx) {
    return static_cast<size_t>(llama_vocab_n_tokens(llama_model_get_vocab(llama_get_model(ctx))));
}

} // namespace

void compressed_prompts::attach(llama_context * ctx) {
    kept_ = byte_budget<compressed_prompt>(kept_.most());
    ctx_ = ctx;
}

std::shared_ptr<const compressed_prompt> compressed_prompts::find(const server_tokens & prompt,
                                                                  const std::string & adapters,
                                                                  const asked_ratio & ratio) {
    const auto found = std::find_if(kept_.begin(), kept_.end(), [&](const auto & kept) {
        return kept->tokens.size() == prompt.size() && kept->adapters == adapters &&
               same_ratio(kept->ratio, ratio) &&
               kept->tokens.get_common_prefix(prompt) == prompt.size();
    });
    if (found == kept_.end()) {
        return nullptr;
    }
    const std::shared_ptr<const compressed_prompt> same = *found;
    kept_.use(same);
    return same;
}

void compressed_prompts::keep(llama_seq_id seq, const server_tokens & prompt,
                              const std::string & adapters, const asked_ratio & ratio,
                              const prompt_cells & counts) {
    const float * logits = last_logits(ctx_);
    const size_t size = llama_state_seq_get_size_ext(ctx_, seq, LLAMA_STATE_SEQ_FLAGS_NONE);
    if (!logits || !kept_.fits(size + n_logits(ctx_) * sizeof(float)) || !has_room(size) ||
        find(prompt, adapters, ratio)) {
        return;
    }
    compressed_prompt made = {
        prompt.clone(),
        adapters,
        ratio,
        counts,
        std::vector<uint8_t>(size),
        {logits, logits + n_logits(ctx_)},
    };
    llama_state_seq_get_data_ext(ctx_, made.cells.data(), size, seq, LLAMA_STATE_SEQ_FLAGS_NONE);
    kept_.add(std::make_shared<const compressed_prompt>(std::move(made)));
}

bool compressed_prompts::restore(llama_seq_id seq, const compressed_prompt & from) const {
    llama_memory_seq_rm(llama_get_memory(ctx_), seq, -1, -1);
    return llama_state_seq_set_data_ext(ctx_, from.cells.data(), from.cells.size(), seq,
                                        LLAMA_STATE_SEQ_FLAGS_NONE) == from.cells.size();
}

void compressed_prompts::restore_logits(const compressed_prompt & from) const {
    std::copy(from.logits.begin(), from.logits.end(), last_logits(ctx_));
}

} // namespace lookm::server
