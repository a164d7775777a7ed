#pragma once

// Images of a prompt and the short texts between them, which llama-server decodes one by one, in
// full batches: decodes that nothing is sampled from only add rows, and a later one decodes them
// all. decodes.h decides which.

#include "lookm/core/turns.h"
#include "lookm/prompt/joined_rows.h"
#include "lookm/server/calls.h"
#include "lookm/server/hook.h"
#include "lookm/server/pruned_pieces.h"
#include "lookm/server/slot_adapter.h"

#include "common.h"
#include "llama.h"
#include "mtmd.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <vector>

namespace lookm::server {

struct joined_prompt {
    joined_rows rows;
    int32_t n_unread = 0; // tokens of the prompt after these rows
    bool broken = false;  // some rows of an image are missing
};

// Prompts of which llama-server takes more for read than has been decoded, by slot. Of the thread
// that decodes.
inline std::map<int32_t, joined_prompt> & joined_prompts() {
    static auto & all = *new std::map<int32_t, joined_prompt>; // may outlive main()
    return all;
}

// Rows of a slot that wait.
inline int32_t n_waiting(int32_t slot) {
    const auto at = joined_prompts().find(slot);
    return at == joined_prompts().end() ? 0 : at->second.rows.size();
}

// Whether pieces of the slot's prompt may wait for others: its answer is not llama-server's own bit
// for bit anyway, as it is compressed or pruned. Drafts need tokens. A cap may be full in the
// middle of a batch; so may a cache without plans (plan_round), where a batch that finds no cells
// would end all answers, and an image that finds none ends its own: an eighth is left for answers.
template <class Slot>
bool may_join(const Slot & slot, llama_context * ctx) {
    if (!completes(slot) || uses_drafts(slot) || !names_of(slot.lora).empty() ||
        !joined_rows::possible(llama_get_model(ctx))) {
        return false;
    }
    const hook & h = server_hook();
    if (h.attached(ctx) && h.is_reader(id_of(slot))) {
        return !h.exceeds(prompt_of(slot));
    }
    int64_t n_taken = kv_cache::cells_in_use(ctx).value_or(0) + n_unread(slot);
    for (const auto & [id, waiting] : joined_prompts()) {
        n_taken += waiting.rows.size() + (id == id_of(slot) ? 0 : waiting.n_unread);
    }
    const int64_t n_ctx = llama_n_ctx(ctx);
    return pruned().n_left_out(id_of(slot)) > 0 && n_taken <= n_ctx - n_ctx / 8;
}

template <class Slot>
joined_prompt & joined(const Slot & slot, llama_context * ctx) {
    joined_prompt & j =
        joined_prompts()
            .try_emplace(id_of(slot), joined_rows(ctx, projector_of(slot), id_of(slot)))
            .first->second;
    j.n_unread = n_unread(slot);
    return j;
}

template <class Slot>
joined_rows::decode_fn decoder_of(const Slot & slot, llama_context * ctx) {
    return [&slot, ctx](row_batch & batch, std::span<const token_kind> kind) {
        hook & h = server_hook();
        if (!h.attached(ctx)) {
            return caught([&] { return batch.decode(); });
        }
        std::optional<slot_prompt> observed;
        if (h.is_reader(id_of(slot))) {
            observed = prompt_of(slot);
        }
        const int32_t n = observed ? batch.size() : 0;
        return guarded(
            [&] {
                h.before_decode(observed ? &*observed : nullptr, n);
                const int32_t status = batch.decode();
                if (status == 0) {
                    h.set_last_kinds(id_of(slot), kind);
                }
                return status;
            },
            [&] { h.after_batch(n); });
    };
}

// Counts rows that wait as cells in use, in what a round is planned with.
inline void count_waiting(std::vector<slot_view> & slots, cache_view & cache) {
    for (slot_view & s : slots) {
        const int32_t n = cache.shared ? n_waiting(s.id) : 0;
        s.n_cells += n;
        cache.n_free -= n;
    }
}

// Decodes what waits. Returns what llama_decode() does.
template <class Slot>
int32_t decode_waiting(const Slot & slot, llama_context * ctx) {
    const auto at = joined_prompts().find(id_of(slot));
    if (at == joined_prompts().end()) {
        return 0;
    }
    at->second.n_unread = 0; // counts again with the next piece that waits
    return at->second.rows.finish(decoder_of(slot, ctx));
}

// piece: of which only some cells are read; null if all are. embd: of all of them
template <class Slot>
int32_t add_image(const Slot & slot, llama_context * ctx, const mtmd_input_chunk * chunk,
                  const pruned_piece * piece, const float * embd, llama_pos at) {
    joined_prompt & j = joined(slot, ctx);
    const mtmd_input_chunk * const whole = piece ? piece->whole.get() : chunk;
    const size_t n = mtmd_input_chunk_get_n_tokens(whole) *
                     static_cast<size_t>(llama_model_n_embd_inp(llama_get_model(ctx)));
    const int32_t status = caught([&] {
        const std::vector<int32_t> cells =
            piece ? pruned().choose(*piece, ctx, chunk, embd) : std::vector<int32_t>();
        return j.rows.add(whole, {embd, n}, cells, at, decoder_of(slot, ctx));
    });
    j.broken = status != 0;
    return status;
}

// llama-server calls this again with the same tokens, or some of them, if it finds no free cells.
template <class Slot>
int32_t add_text(const Slot & slot, llama_context * ctx, const common_batch & batch) {
    joined_prompt & j = joined(slot, ctx);
    std::vector<llama_token> tokens;
    llama_pos at = 0;
    for (const common_batch::token & t : batch.tokens) {
        if (t.pos[0] >= j.rows.next()) {
            at = tokens.empty() ? t.pos[0] : at;
            tokens.push_back(t.id);
        }
    }
    return caught([&] { return j.rows.add(tokens, at, decoder_of(slot, ctx)); });
}

// The slot's request has ended, maybe before its prompt had been read: its cells are those of the
// tokens that it holds, or none.
template <class Slot>
void end_joining(Slot & slot) {
    const auto at = joined_prompts().find(id_of(slot));
    if (at == joined_prompts().end()) {
        return;
    }
    bool complete = !at->second.broken;
    if (complete && at->second.rows.size() > 0) {
        use_adapters(slot, context_of(slot));
        // nothing can go on from an observed prompt that has been read in part
        complete = !(is_attached(slot) && server_hook().observes(prompt_of(slot))) &&
                   decode_waiting(slot, context_of(slot)) == 0;
    }
    joined_prompts().erase(at);
    if (!complete) {
        clear(slot);
    }
}

} // namespace lookm::server
