#include "lookm/server/full_prefixes.h"

#include "lookm/host/memory_room.h"

#include "llama.h"
#include "log.h"

#include <algorithm>
#include <utility>

namespace lookm::server {

int32_t end_of_last_image(const server_tokens & tokens, int32_t n) {
    int32_t end = 0;
    for (int32_t i = 0; tokens.has_mtmd && i < n;) {
        if (tokens[i] != LLAMA_TOKEN_NULL) {
            ++i;
            continue;
        }
        i += static_cast<int32_t>(mtmd_input_chunk_get_n_tokens(tokens.find_chunk(i).get()));
        end = i <= n ? i : end;
    }
    return end;
}

full_prefixes::match full_prefixes::find(const server_tokens & prompt, int32_t n_most) {
    match best;
    for (const std::shared_ptr<const full_prefix> & kept : kept_) {
        const auto n_common = static_cast<int32_t>(kept->tokens.get_common_prefix(prompt));
        const int32_t n = end_of_last_image(prompt, std::min(n_common, n_most));
        if (n > best.n_tokens) {
            best = {kept, n};
        }
    }
    if (best.from) {
        kept_.use(best.from);
    }
    return best;
}

void full_prefixes::keep(llama_context * ctx, llama_seq_id seq, const server_tokens & tokens) {
    const size_t size = llama_state_seq_get_size_ext(ctx, seq, LLAMA_STATE_SEQ_FLAGS_NONE);
    if (!kept_.fits(size + tokens.size() * sizeof(llama_token))) {
        return;
    }
    if (!has_room(size)) {
        LOG_WRN("slot       prefix: id %2d | %zu bytes of the full prompt are not kept: too little "
                "memory is left\n",
                seq, size);
        return;
    }
    full_prefix made = {tokens.clone(), std::vector<uint8_t>(size)};
    llama_state_seq_get_data_ext(ctx, made.cells.data(), size, seq, LLAMA_STATE_SEQ_FLAGS_NONE);
    // what the new one begins with need not be kept twice
    kept_.drop_if([&](const full_prefix & old) {
        return old.tokens.get_common_prefix(tokens) >=
               static_cast<size_t>(
                   end_of_last_image(old.tokens, static_cast<int32_t>(old.tokens.size())));
    });
    kept_.add(std::make_shared<const full_prefix>(std::move(made)));
}

} // namespace lookm::server
