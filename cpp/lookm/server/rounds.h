#pragma once

// One round of llama-server's loop: which prompts go on in it, and what is observed and compressed in its decodes.
// Slots are types of server-context.cpp, seen by context.cpp alone: hence templates, and states by way of the slot's
// type.

#include "lookm/server/calls.h"
#include "lookm/server/hook.h"
#include "lookm/server/image_batches.h"
#include "lookm/server/settings.h"

#include "mtmd-helper.h"

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

namespace lookm::server {

template <class Slot>
using state_of = decltype(Slot::state);

// Whether the slot's request is one whose prompt may be compressed: no embedding, no rerank.
template <class Slot>
bool completes(const Slot & slot) {
    return slot.task && (slot.task->type == SERVER_TASK_TYPE_COMPLETION || slot.task->type == SERVER_TASK_TYPE_INFILL);
}

template <class Slot>
slot_prompt prompt_of(const Slot & slot) {
    const server_tokens & tokens = slot.task->tokens;
    bool has_image = false;
    for (size_t i = 0; tokens.has_mtmd && !has_image && i < tokens.size(); ++i) {
        has_image = tokens[i] == LLAMA_TOKEN_NULL;
    }
    const auto kind = [&tokens](const packed_cells & packed) {
        std::vector<token_kind> out;
        for (size_t i = packed.n > 0 ? tokens.size_up_to_pos(packed.pos + 1) : 0; i < tokens.size(); ++i) {
            out.push_back(tokens[i] == LLAMA_TOKEN_NULL ? token_kind::image : token_kind::text);
        }
        return out;
    };
    const auto parts = [&slot, &tokens] {
        std::vector<prompt_part> out;
        for (size_t i = 0; i < tokens.size();) {
            if (tokens[i] == LLAMA_TOKEN_NULL) {
                const mtmd_input_chunk * chunk = tokens.find_chunk(i).get();
                const auto n = static_cast<int32_t>(mtmd_input_chunk_get_n_tokens(chunk));
                out.push_back({n, token_kind::image, true, mtmd_decode_use_non_causal(slot.mctx, chunk)});
                i += n;
                continue;
            }
            if (out.empty() || out.back().kind == token_kind::image) {
                out.push_back({0, token_kind::text, false});
            }
            ++out.back().n_cells;
            ++i;
        }
        return out;
    };
    return {slot.id, slot.task->id, slot.task->n_tokens(), has_image, unpack_ratio(slot.task->params.n_discard),
            kind,    parts};
}

// Whether the slot's prompt is to be compressed, now or meanwhile, and has not been decoded to its end.
template <class Slot>
bool is_under_way(const Slot & slot) {
    using state = state_of<Slot>;
    return (slot.state == state::SLOT_STATE_STARTED || slot.state == state::SLOT_STATE_PROCESSING_PROMPT) &&
           completes(slot) && the_hook().observes(prompt_of(slot));
}

// llama-server refuses it as soon as it goes on, so that it need not wait for anything.
template <class Slot>
bool is_too_long(const Slot & slot) {
    return slot.state == state_of<Slot>::SLOT_STATE_STARTED && completes(slot) && slot.task->n_tokens() >= slot.n_ctx;
}

// Prompts that are read one after another: those, and whatever else has images, as llama-server fails where an image
// finds no room.
template <class Slot>
bool takes_turns(const Slot & slot) {
    using state = state_of<Slot>;
    return (slot.state == state::SLOT_STATE_STARTED || slot.state == state::SLOT_STATE_PROCESSING_PROMPT) &&
           completes(slot) && !is_too_long(slot) && (prompt_of(slot).has_image || the_hook().observes(prompt_of(slot)));
}

// A new prompt, in a slot whose cells it must not go on from.
template <class Slot>
void drop_foreign_cells(Slot & slot) {
    if (slot.state == state_of<Slot>::SLOT_STATE_STARTED && completes(slot) && slot.prompt.n_tokens() > 0) {
        const auto n_common = static_cast<int32_t>(slot.prompt.tokens.get_common_prefix(slot.task->tokens));
        const auto n_up_to = [&slot](llama_pos pos) {
            return static_cast<int32_t>(slot.prompt.tokens.size_up_to_pos(pos + 1));
        };
        if (!slot.task->params.cache_prompt ||
            !the_hook().may_reuse(prompt_of(slot), n_common, {slot.prompt.n_tokens(), n_up_to})) {
            slot.prompt_clear();
        }
    }
}

// The slot's request has ended, maybe before its prompt did. What is half-read goes at once, before a slot file or the
// prompt cache takes it along; a prompt that was too long has not been begun.
template <class Slot>
void released(Slot & slot) {
    const bool began = completes(slot) && slot.stats.t_start > 0 && slot.task->n_tokens() < slot.n_ctx;
    if (current().active() && began && the_hook().attached(slot.ctx_tgt) &&
        the_hook().is_half_read(slot.id, slot.task->id)) {
        slot.prompt_clear();
    }
}

// Cells that the slot's prompt will take yet; none where the slot holds more of another prompt, which makes room first.
template <class Slot>
int32_t n_unread(const Slot & slot) {
    return std::max(0, slot.task->n_tokens() - slot.prompt.n_tokens());
}

template <class Slot>
bool answers(const Slot & slot) {
    return slot.state == state_of<Slot>::SLOT_STATE_GENERATING || slot.state == state_of<Slot>::SLOT_STATE_DONE_PROMPT;
}

// Cells to have ready for the slot's answer: what its request or the server (-n) leaves of it, an even share of the
// cache at most. Requests name large numbers that few answers come to.
template <class Slots>
int32_t n_answer(const Slots & slots, const typename Slots::value_type & slot) {
    constexpr int32_t n_unbounded = 64;
    if (!completes(slot)) {
        return 0;
    }
    const int32_t n_share = the_hook().n_cells() / static_cast<int32_t>(slots.size());
    const int32_t n_come = answers(slot) ? static_cast<int32_t>(slot.stats.n_gen) : 0;
    const int32_t n_left = slot.n_predict_max < 0 ? n_unbounded : std::min(slot.n_predict_max - n_come, n_share);
    return std::clamp(n_left, 0, std::max(0, slot.n_ctx - slot.task->n_tokens() - n_come));
}

// Free cells, in the cache of a draft model, too: that keeps every token.
template <class Slots>
int32_t n_free(const Slots & slots) {
    int32_t n = the_hook().n_free();
    if (const llama_context * draft = slots.front().ctx_dft) {
        int32_t n_draft = static_cast<int32_t>(llama_n_ctx(draft));
        for (const auto & slot : slots) {
            n_draft -= slot.prompt.n_tokens();
        }
        n = std::min(n, n_draft);
    }
    return n;
}

// Cells that all under way, answers and prompts, may take while another one is read; but: not this slot.
template <class Slots>
int32_t n_growing(const Slots & slots, const typename Slots::value_type * but) {
    using state = state_of<typename Slots::value_type>;
    constexpr int32_t n_meanwhile = 64; // of each answer
    int32_t n = 0;
    for (const auto & slot : slots) {
        const bool reads = slot.state == state::SLOT_STATE_PROCESSING_PROMPT;
        if (&slot != but && (reads || answers(slot))) {
            n += n_meanwhile + (reads ? n_unread(slot) : 0);
        }
    }
    return n;
}

// Cells that all answers under way may take yet, with what is left to read of their prompts.
template <class Slots>
int32_t n_answers(const Slots & slots, const typename Slots::value_type * but) {
    int32_t n = 0;
    for (const auto & slot : slots) {
        const bool reads = slot.state == state_of<typename Slots::value_type>::SLOT_STATE_PROCESSING_PROMPT;
        if (&slot != but && (reads || answers(slot))) {
            n += n_answer(slots, slot) + (reads ? n_unread(slot) : 0);
        }
    }
    return n;
}

// Cells that a prompt which has not begun will have taken when its answers, its children's among them, have come to
// their ends.
template <class Slots>
int32_t n_at_the_end(const Slots & slots, const typename Slots::value_type & next) {
    int32_t n = n_unread(next);
    if (completes(next) && !next.ctx_dft) {
        const slot_prompt p = prompt_of(next);
        n = the_hook().observes(p) ? static_cast<int32_t>(p.ratio * n) : n;
    }
    n += n_answer(slots, next);
    for (const auto & slot : slots) {
        if (slot.state == state_of<typename Slots::value_type>::SLOT_STATE_WAIT_OTHER &&
            slot.task->id_parent == next.task->id) {
            n += n_answer(slots, slot);
        }
    }
    return n;
}

// Whether a slot's cells may be given up for others: it is idle, or has not begun.
template <class Slot>
bool rests(const Slot & slot) {
    using state = state_of<Slot>;
    return slot.prompt.n_tokens() > 0 && (!slot.is_processing() || slot.state == state::SLOT_STATE_STARTED ||
                                          slot.state == state::SLOT_STATE_WAIT_OTHER); // will get a copy of another's
}

// Cells that are free or can be freed.
template <class Slots>
int32_t n_obtainable(const Slots & slots, const typename Slots::value_type * but) {
    int32_t n = n_free(slots);
    for (const auto & slot : slots) {
        if (&slot != but && rests(slot)) {
            n += slot.ctx_dft ? slot.prompt.n_tokens() : the_hook().n_used(slot.id);
        }
    }
    return n;
}

// Frees cells of slots that may give them up, the longest unused first, until n are free. Returns whether they are.
template <class Slots, class MayGo>
bool free_cells(Slots & slots, int32_t n, MayGo && may_go) {
    while (n_free(slots) < n) {
        typename Slots::value_type * oldest = nullptr;
        for (auto & slot : slots) {
            if (rests(slot) && may_go(slot) && (!oldest || slot.t_last_used < oldest->t_last_used)) {
                oldest = &slot;
            }
        }
        if (!oldest) {
            return false;
        }
        oldest->prompt_clear();
    }
    return true;
}

// Room for the next prompt, or for the rest of it, in a cache that all slots share, and then for its answer beside
// those under way. Resting slots give up their cells for the prompt; busy slots are waited for. Where there is nobody
// to wait for, llama-server says that the context is too small.
template <class Slots>
bool has_room(Slots & slots, const typename Slots::value_type & next) {
    using slot_type = typename Slots::value_type;
    const int32_t n_others = n_growing(slots, &next);
    if (next.state == state_of<slot_type>::SLOT_STATE_STARTED && n_others > 0 &&
        n_obtainable(slots, &next) < n_at_the_end(slots, next) + n_answers(slots, &next)) {
        return false;
    }
    return free_cells(slots, n_unread(next) + n_others, [&next](const slot_type & slot) { return &slot != &next; }) ||
           n_others == 0;
}

// llama-server aborts on a prompt without text after its last image: there is nothing to sample from.
template <class Slot>
bool ends_with_image(const Slot & slot) {
    const server_tokens & tokens = slot.task->tokens;
    return tokens.has_mtmd && tokens.size() > 0 && tokens[tokens.size() - 1] == LLAMA_TOKEN_NULL;
}

// Begins a round. Returns the slots that sit it out, with the state to give back to them.
template <class Slots, class Refuse>
auto before_round(Slots & slots, bool unified, Refuse && refuse) {
    using slot_type = typename Slots::value_type;
    using state = state_of<slot_type>;
    std::vector<std::pair<slot_type *, state>> held;
    if (!current().active()) {
        return held;
    }
    const auto rank = [](const slot_type & slot) {
        return std::pair(slot.state == state::SLOT_STATE_STARTED, slot.task->id);
    };
    slot_type * next = nullptr; // the prompt that was begun, else the one that came first
    for (slot_type & slot : slots) {
        if (slot.state == state::SLOT_STATE_STARTED && ends_with_image(slot)) {
            refuse(slot, "prompt: it ends with an image; expected text after it");
        }
        drop_foreign_cells(slot);
        if (slot.state == state::SLOT_STATE_STARTED && completes(slot)) {
            const std::string why = the_hook().refusal(prompt_of(slot), slot.prompt.n_tokens() == 0);
            if (!why.empty()) {
                refuse(slot, why.c_str());
            }
        } else if (slot.state == state::SLOT_STATE_STARTED && the_hook().capped() &&
                   slot.task->n_tokens() > the_hook().slot_cells()) {
            refuse(slot,
                   "input: it has more tokens than a slot has cells (--kv-cells), and only prompts of completions "
                   "are compressed");
        }
    }
    const bool shared = unified && !the_hook().capped(); // else each slot has cells of its own
    const auto begins = [](const slot_type & slot) {
        return slot.state == state::SLOT_STATE_STARTED && !is_too_long(slot);
    };
    const auto reads = [&begins](const slot_type & slot) {
        return begins(slot) || slot.state == state::SLOT_STATE_PROCESSING_PROMPT;
    };
    std::vector<const slot_type *> turns;
    const auto in_turn = [&turns](const slot_type & slot) {
        return std::find(turns.begin(), turns.end(), &slot) != turns.end();
    };
    const auto take_turn = [&](slot_type & slot) {
        turns.push_back(&slot);
        next = !next || rank(slot) < rank(*next) ? &slot : next;
    };
    for (slot_type & slot : slots) {
        if (takes_turns(slot) || (reads(slot) && the_hook().reads_alone())) {
            take_turn(slot);
        }
    }
    // any other prompt that finds no room beside that one has its turn, too, or it would wait while others keep coming
    const bool one = next && next->state == state::SLOT_STATE_STARTED; // else it grows, and is counted so
    const int32_t n_beside = one ? n_unread(*next) : 0;
    const int32_t n_beside_at_the_end = one ? n_at_the_end(slots, *next) : 0;
    for (slot_type & slot : slots) {
        if (shared && begins(slot) && !in_turn(slot) &&
            (n_unread(slot) > n_free(slots) - n_growing(slots, &slot) - n_beside ||
             n_at_the_end(slots, slot) > n_obtainable(slots, &slot) - n_answers(slots, &slot) - n_beside_at_the_end)) {
            take_turn(slot);
        }
    }
    const bool fits = !next || !shared || has_room(slots, *next);
    const bool beside = next && next->state == state::SLOT_STATE_STARTED;
    const bool waits = !fits && next->state == state::SLOT_STATE_STARTED;
    // the room that was found for a prompt is its own until it is read: others that begin meanwhile come on top of it
    int32_t n_left = INT32_MAX, n_left_at_the_end = INT32_MAX;
    if (shared && !waits) {
        n_left = n_free(slots) - n_growing(slots, next) - (next ? n_unread(*next) : 0);
        n_left_at_the_end = n_obtainable(slots, next) - n_answers(slots, next) -
                            (!next    ? 0
                             : beside ? n_at_the_end(slots, *next)
                                      : n_unread(*next) + n_answer(slots, *next));
    }
    for (slot_type & slot : slots) {
        bool hold = in_turn(slot) && (&slot != next || waits);
        // who came later may not take the room that it waits for
        hold = hold || (waits && begins(slot) && rank(slot) > rank(*next));
        if (begins(slot) && &slot != next && !hold) {
            const int32_t n = n_unread(slot), n_end = n_at_the_end(slots, slot);
            hold = n > n_left || n_end > n_left_at_the_end;
            n_left -= hold ? 0 : n;
            n_left_at_the_end -= hold ? 0 : n_end;
        }
        if (hold) {
            held.emplace_back(&slot, slot.state);
            slot.state = state::SLOT_STATE_WAIT_OTHER;
        }
    }
    if (shared) { // llama-server frees cells of idle slots for answers, and not of those that are held
        constexpr int32_t n_at_once = 16; // tokens of an answer in a round, drafts among them
        const auto n = std::count_if(slots.begin(), slots.end(), [](const slot_type & slot) { return answers(slot); });
        free_cells(slots, static_cast<int32_t>(n) * n_at_once, [&held](const slot_type & slot) {
            return std::any_of(held.begin(), held.end(), [&slot](const auto & one) { return one.first == &slot; });
        });
    }
    return held;
}

template <class Slot>
void after_round(const std::vector<std::pair<Slot *, state_of<Slot>>> & held) {
    if (!current().active()) {
        return;
    }
    for (const auto & [slot, was] : held) {
        if (slot->state == state_of<Slot>::SLOT_STATE_WAIT_OTHER) { // else it was given up meanwhile
            slot->state = was;
        }
    }
    the_hook().update_gauges();
}

// An image of the slot's prompt is decoded, by itself.
template <class Slot>
int32_t decode_image(const Slot & slot, mtmd_context * mctx, llama_context * ctx, const mtmd_input_chunk * chunk,
                     float * embd, llama_pos n_past, llama_seq_id seq, int32_t n_batch, llama_pos * new_n_past,
                     mtmd_helper_post_decode_callback callback, void * user_data) {
    hook & h = the_hook();
    if (!h.attached(ctx)) {
        return mtmd_helper_decode_image_chunk(mctx, ctx, chunk, embd, n_past, seq, n_batch, new_n_past, callback,
                                              user_data);
    }
    const slot_prompt p = prompt_of(slot);
    image_batches batches(h, is_under_way(slot) ? &p : nullptr, mtmd_decode_use_non_causal(mctx, chunk),
                          static_cast<int32_t>(mtmd_input_chunk_get_n_tokens(chunk)), n_batch, callback, user_data);
    return guarded(
        [&] {
            batches.before();
            const int32_t status = mtmd_helper_decode_image_chunk(
                mctx, ctx, chunk, embd, n_past, seq, batches.n_at_once(), new_n_past, image_batches::after, &batches);
            batches.rethrow();
            return status;
        },
        [] {});
}

// The slot's answer goes on in this batch: where the slot's cells are all taken, its older half makes room.
template <class Slot>
void make_room_for_answer(const Slot & slot, const common_batch & batch) {
    if (slot.state != state_of<Slot>::SLOT_STATE_GENERATING || !completes(slot)) {
        return;
    }
    const auto own = [&](const auto & t) { return t.seq_id == slot.id; };
    const auto first = std::find_if(batch.tokens.begin(), batch.tokens.end(), own);
    if (first != batch.tokens.end()) {
        const auto n = static_cast<int32_t>(std::count_if(first, batch.tokens.end(), own));
        the_hook().before_answer(slot.id, slot.task->id, slot.task->tokens.pos_next(), first->pos[0], n);
    }
}

// A batch of tokens of several slots is decoded; prompts whose last token is in it are compressed.
template <class Slots, class Decode>
int32_t decode_batch(const Slots & slots, bool unified, const llama_context * ctx, const common_batch & batch,
                     Decode && decode) {
    using slot_type = typename Slots::value_type;
    using state = state_of<slot_type>;
    hook & h = the_hook();
    if (!h.attached(ctx)) {
        return decode();
    }
    const auto in_batch = [&](const slot_type & slot, bool last) {
        return std::any_of(batch.tokens.begin(), batch.tokens.end(),
                           [&](const auto & t) { return t.seq_id == slot.id && (t.output || !last); });
    };
    const auto observed = std::find_if(slots.begin(), slots.end(), [&](const slot_type & slot) {
        return completes(slot) && in_batch(slot, false) &&
               (is_under_way(slot) || (slot.state == state::SLOT_STATE_DONE_PROMPT && h.observes(prompt_of(slot))));
    });
    foreign_rows foreign;
    int32_t n_own = 0;
    if (observed != slots.end()) {
        const auto own = [&](const auto & t) { return t.seq_id == observed->id; };
        n_own = static_cast<int32_t>(std::count_if(batch.tokens.begin(), batch.tokens.end(), own));
        const auto first = std::find_if(batch.tokens.begin(), batch.tokens.end(), own);
        const auto last = std::find_if(batch.tokens.rbegin(), batch.tokens.rend(), own);
        if (unified) {
            foreign = {first - batch.tokens.begin(), last - batch.tokens.rbegin()};
        }
    }
    const auto run = [&] {
        if (observed != slots.end()) {
            const slot_prompt p = prompt_of(*observed);
            h.before_decode(&p, n_own, foreign);
        } else {
            h.before_decode(nullptr);
        }
        for (const slot_type & slot : slots) {
            make_room_for_answer(slot, batch);
        }
        const int32_t status = decode();
        if (status != 0 && observed != slots.end()) {
            h.take_back(foreign);
        }
        return status;
    };
    return guarded(run, [&] {
        h.after_decode(n_own, foreign);
        for (const slot_type & slot : slots) {
            if (slot.state != state::SLOT_STATE_DONE_PROMPT || !completes(slot) || !in_batch(slot, true)) {
                continue;
            }
            const slot_prompt p = prompt_of(slot);
            h.finish(p);
            for (const slot_type & other : slots) {
                if (other.state == state::SLOT_STATE_WAIT_OTHER && other.task->id_parent == p.task) {
                    h.share(p, other.id, other.task->id);
                }
            }
        }
    });
}

} // namespace lookm::server
