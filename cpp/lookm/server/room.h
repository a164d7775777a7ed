#pragma once

// Room in a cache that all slots share: what prompts and answers will take, and whose cells may be
// given up for it.

#include "lookm/server/hook.h"
#include "lookm/server/slots.h"

#include "llama.h"

#include <algorithm>
#include <cstdint>

namespace lookm::server {

// Cells that the slot's prompt will take yet; none where the slot holds more of another prompt,
// which makes room first.
template <class Slot>
int32_t n_unread(const Slot & slot) {
    return std::max(0, slot.task->n_tokens() - slot.prompt.n_tokens());
}

// Cells to have ready for the slot's answer: what its request or the server (-n) leaves of it, an
// even share of the cache at most. Requests name large numbers that few answers come to.
template <class Slots>
int32_t n_answer(const Slots & slots, const typename Slots::value_type & slot) {
    constexpr int32_t n_unbounded = 64;
    if (!completes(slot)) {
        return 0;
    }
    const int32_t n_share = the_hook().n_cells() / static_cast<int32_t>(slots.size());
    const int32_t n_come = answers(slot) ? static_cast<int32_t>(slot.stats.n_gen) : 0;
    const int32_t n_left =
        slot.n_predict_max < 0 ? n_unbounded : std::min(slot.n_predict_max - n_come, n_share);
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

// Cells that all under way, answers and prompts, may take while another one is read; but: not this
// slot.
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
        const bool reads =
            slot.state == state_of<typename Slots::value_type>::SLOT_STATE_PROCESSING_PROMPT;
        if (&slot != but && (reads || answers(slot))) {
            n += n_answer(slots, slot) + (reads ? n_unread(slot) : 0);
        }
    }
    return n;
}

// Cells that a prompt which has not begun will have taken when its answers, its children's among
// them, have come to their ends.
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
    return slot.prompt.n_tokens() > 0 &&
           (!slot.is_processing() || slot.state == state::SLOT_STATE_STARTED ||
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

// Frees cells of slots that may give them up, the longest unused first, until n are free. Returns
// whether they are.
template <class Slots, class MayGo>
bool free_cells(Slots & slots, int32_t n, MayGo && may_go) {
    while (n_free(slots) < n) {
        typename Slots::value_type * oldest = nullptr;
        for (auto & slot : slots) {
            if (rests(slot) && may_go(slot) &&
                (!oldest || slot.t_last_used < oldest->t_last_used)) {
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

// Room for the next prompt, or for the rest of it, in a cache that all slots share, and then for
// its answer beside those under way. Resting slots give up their cells for the prompt; busy slots
// are waited for. Where there is nobody to wait for, llama-server says that the context is too
// small.
template <class Slots>
bool has_room(Slots & slots, const typename Slots::value_type & next) {
    using slot_type = typename Slots::value_type;
    const int32_t n_others = n_growing(slots, &next);
    if (next.state == state_of<slot_type>::SLOT_STATE_STARTED && n_others > 0 &&
        n_obtainable(slots, &next) < n_at_the_end(slots, next) + n_answers(slots, &next)) {
        return false;
    }
    return free_cells(slots, n_unread(next) + n_others,
                      [&next](const slot_type & slot) { return &slot != &next; }) ||
           n_others == 0;
}

} // namespace lookm::server
