#pragma once

// The decodes of a round of llama-server's loop: what is observed in them, and compressed after
// them.

#include "lookm/prompt/pruned_images.h"
#include "lookm/server/calls.h"
#include "lookm/server/hook.h"
#include "lookm/server/image_batches.h"
#include "lookm/server/joined_prompts.h"
#include "lookm/server/pruned_pieces.h"
#include "lookm/server/slot_adapter.h"

#include "mtmd-helper.h"

#include <algorithm>
#include <cstdint>
#include <memory>

namespace lookm::server {

// An image of the slot's prompt is decoded, or waits for a full batch.
template <class Slot>
int32_t decode_image(const Slot & slot, mtmd_context * mctx, llama_context * ctx,
                     const mtmd_input_chunk * chunk, float * embd, llama_pos n_past,
                     llama_seq_id seq, int32_t n_batch, llama_pos * new_n_past,
                     mtmd_helper_post_decode_callback callback, void * user_data) {
    hook & h = server_hook();
    use_adapters(slot, ctx);
    const std::shared_ptr<const pruned_piece> piece = pruned().find(chunk);
    const auto n_cells = static_cast<int32_t>(mtmd_input_chunk_get_n_tokens(chunk));
    if (may_join(slot, ctx) &&
        joined(slot, ctx).rows.takes_image(piece ? piece->whole.get() : chunk, piece != nullptr)) {
        int32_t status = add_image(slot, ctx, chunk, piece.get(), embd, n_past);
        if (status == 0 && h.attached(ctx) && ends_prefix(slot, n_cells)) {
            status = caught([&] {
                const int32_t decoded = decode_waiting(slot, ctx);
                if (decoded == 0) {
                    keep_prefix(slot, n_cells);
                }
                return decoded;
            });
        }
        return status;
    }
    if (const int32_t status = decode_waiting(slot, ctx); status != 0) {
        return status;
    }
    const auto decode = [&](int32_t n_at_once, mtmd_helper_post_decode_callback then, void * data) {
        return piece ? decode_cells(mctx, ctx, piece->whole.get(),
                                    pruned().choose(*piece, ctx, chunk, embd), embd, n_past, seq,
                                    n_at_once, new_n_past, then, data)
                     : mtmd_helper_decode_image_chunk(mctx, ctx, chunk, embd, n_past, seq,
                                                      n_at_once, new_n_past, then, data);
    };
    if (!h.attached(ctx)) {
        return caught([&] { return decode(n_batch, callback, user_data); });
    }
    const slot_prompt p = prompt_of(slot);
    image_batches batches(h, h.is_reader(p.slot) ? &p : nullptr,
                          mtmd_decode_use_non_causal(mctx, chunk), n_cells, n_batch, callback,
                          user_data);
    return guarded(
        [&] {
            batches.before();
            const int32_t status = decode(batches.n_at_once(), image_batches::after, &batches);
            batches.rethrow();
            return status;
        },
        [&] {
            if (ends_prefix(slot, n_cells)) {
                keep_prefix(slot, n_cells);
            }
        });
}

// The slot's answer continues in this batch: if all cells of the slot are taken, the older half of
// the answer is dropped.
template <class Slot>
void make_room_for_answer(const Slot & slot, const common_batch & batch) {
    const auto answer = answer_of(slot);
    if (!answer) {
        return;
    }
    const auto own = [&](const auto & t) { return t.seq_id == answer->slot; };
    const auto first = std::find_if(batch.tokens.begin(), batch.tokens.end(), own);
    if (first != batch.tokens.end()) {
        const auto n = static_cast<int32_t>(std::count_if(first, batch.tokens.end(), own));
        server_hook().before_answer(*answer, first->pos[0], n);
    }
}

// Whether the batch is a short text of this slot's prompt alone, with an image after it. After rows
// that wait it joins in any case: some of its tokens may be among them already (add_text).
template <class Slot>
bool joins(const Slot & slot, llama_context * ctx, const common_batch & batch) {
    return joined_rows::takes_text(batch.size()) &&
           std::all_of(batch.tokens.begin(), batch.tokens.end(),
                       [&](const auto & t) { return t.seq_id == id_of(slot) && !t.output; }) &&
           image_follows(slot) && (n_waiting(id_of(slot)) > 0 || may_join(slot, ctx));
}

// A batch of tokens of several slots is decoded; prompts whose last token is in it are compressed.
template <class Slots, class Decode>
int32_t decode_batch(const Slots & slots, llama_context * ctx, const common_batch & batch,
                     Decode && decode) {
    hook & h = server_hook();
    const auto in_batch = [&](const auto & slot, bool last) {
        return std::any_of(batch.tokens.begin(), batch.tokens.end(), [&](const auto & t) {
            return t.seq_id == id_of(slot) && (t.output || !last);
        });
    };
    bool waits = false;
    const int32_t status = caught([&] {
        int32_t of_slots = 0;
        for (auto slot = slots.begin(); slot != slots.end() && of_slots == 0; ++slot) {
            if (in_batch(*slot, false)) {
                waits = joins(*slot, ctx, batch);
                of_slots = waits ? add_text(*slot, ctx, batch) : decode_waiting(*slot, ctx);
            }
        }
        return of_slots;
    });
    if (waits || status != 0) {
        return status;
    }
    if (!h.attached(ctx)) {
        return decode();
    }
    const auto reader = std::find_if(slots.begin(), slots.end(), [&](const auto & slot) {
        return h.is_reader(id_of(slot)) && in_batch(slot, false);
    });
    // all rows of the batch are of that prompt: plan_round keeps all other slots out of the round
    const int32_t n_own = reader != slots.end() ? static_cast<int32_t>(batch.tokens.size()) : 0;
    const auto run = [&] {
        if (reader != slots.end()) {
            const slot_prompt p = prompt_of(*reader);
            h.before_decode(&p, n_own);
        } else {
            h.before_decode(nullptr);
        }
        for (const auto & slot : slots) {
            make_room_for_answer(slot, batch);
        }
        return decode();
    };
    return guarded(run, [&] {
        h.after_batch(n_own);
        for (const auto & slot : slots) {
            if (!has_read_prompt(slot) || !in_batch(slot, true)) {
                continue;
            }
            const slot_prompt p = prompt_of(slot);
            keep_text_prefix(slot);
            if (h.finish(p)) {
                keep_compressed(slot);
            }
            for (const auto & other : slots) {
                if (waits_for(other, p.task)) {
                    h.share(p, id_of(other), task_of(other));
                }
            }
        }
    });
}

} // namespace lookm::server
