#pragma once

// The decodes of a round of llama-server's loop: what is observed in them, and compressed after
// them.

#include "lookm/server/calls.h"
#include "lookm/server/hook.h"
#include "lookm/server/image_batches.h"
#include "lookm/server/slots.h"

#include "mtmd-helper.h"

#include <algorithm>
#include <cstdint>

namespace lookm::server {

// Whether the slot's prompt is to be compressed, now or meanwhile, and has not been decoded to its
// end.
template <class Slot>
bool is_under_way(const Slot & slot) {
    using state = state_of<Slot>;
    return (slot.state == state::SLOT_STATE_STARTED ||
            slot.state == state::SLOT_STATE_PROCESSING_PROMPT) &&
           completes(slot) && the_hook().observes(prompt_of(slot));
}

// An image of the slot's prompt is decoded, by itself.
template <class Slot>
int32_t decode_image(const Slot & slot, mtmd_context * mctx, llama_context * ctx,
                     const mtmd_input_chunk * chunk, float * embd, llama_pos n_past,
                     llama_seq_id seq, int32_t n_batch, llama_pos * new_n_past,
                     mtmd_helper_post_decode_callback callback, void * user_data) {
    hook & h = the_hook();
    if (!h.attached(ctx)) {
        return mtmd_helper_decode_image_chunk(mctx, ctx, chunk, embd, n_past, seq, n_batch,
                                              new_n_past, callback, user_data);
    }
    const slot_prompt p = prompt_of(slot);
    image_batches batches(
        h, is_under_way(slot) ? &p : nullptr, mtmd_decode_use_non_causal(mctx, chunk),
        static_cast<int32_t>(mtmd_input_chunk_get_n_tokens(chunk)), n_batch, callback, user_data);
    return guarded(
        [&] {
            batches.before();
            const int32_t status = mtmd_helper_decode_image_chunk(
                mctx, ctx, chunk, embd, n_past, seq, batches.n_at_once(), new_n_past,
                image_batches::after, &batches);
            batches.rethrow();
            return status;
        },
        [] {});
}

// The slot's answer goes on in this batch: where the slot's cells are all taken, its older half
// makes room.
template <class Slot>
void make_room_for_answer(const Slot & slot, const common_batch & batch) {
    if (slot.state != state_of<Slot>::SLOT_STATE_GENERATING || !completes(slot)) {
        return;
    }
    const auto own = [&](const auto & t) { return t.seq_id == slot.id; };
    const auto first = std::find_if(batch.tokens.begin(), batch.tokens.end(), own);
    if (first != batch.tokens.end()) {
        const auto n = static_cast<int32_t>(std::count_if(first, batch.tokens.end(), own));
        the_hook().before_answer(slot.id, slot.task->id, slot.task->tokens.pos_next(),
                                 first->pos[0], n);
    }
}

// A batch of tokens of several slots is decoded; prompts whose last token is in it are compressed.
template <class Slots, class Decode>
int32_t decode_batch(const Slots & slots, const llama_context * ctx, const common_batch & batch,
                     Decode && decode) {
    using slot_type = typename Slots::value_type;
    using state = state_of<slot_type>;
    hook & h = the_hook();
    if (!h.attached(ctx)) {
        return decode();
    }
    const auto in_batch = [&](const slot_type & slot, bool last) {
        return std::any_of(batch.tokens.begin(), batch.tokens.end(), [&](const auto & t) {
            return t.seq_id == slot.id && (t.output || !last);
        });
    };
    const auto observed = std::find_if(slots.begin(), slots.end(), [&](const slot_type & slot) {
        return completes(slot) && in_batch(slot, false) &&
               (is_under_way(slot) ||
                (slot.state == state::SLOT_STATE_DONE_PROMPT && h.observes(prompt_of(slot))));
    });
    // all rows of the batch are of that prompt: separate() has seen to it
    const int32_t n_own = observed != slots.end() ? static_cast<int32_t>(batch.tokens.size()) : 0;
    const auto run = [&] {
        if (observed != slots.end()) {
            const slot_prompt p = prompt_of(*observed);
            h.before_decode(&p, n_own);
        } else {
            h.before_decode(nullptr);
        }
        for (const slot_type & slot : slots) {
            make_room_for_answer(slot, batch);
        }
        return decode();
    };
    return guarded(run, [&] {
        h.after_batch(n_own);
        for (const slot_type & slot : slots) {
            if (slot.state != state::SLOT_STATE_DONE_PROMPT || !completes(slot) ||
                !in_batch(slot, true)) {
                continue;
            }
            const slot_prompt p = prompt_of(slot);
            h.finish(p);
            for (const slot_type & other : slots) {
                if (other.state == state::SLOT_STATE_WAIT_OTHER &&
                    other.task->id_parent == p.task) {
                    h.share(p, other.id, other.task->id);
                }
            }
        }
    });
}

} // namespace lookm::server
