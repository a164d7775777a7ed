#pragma once

// One round of llama-server's loop: which prompts go on in it. decodes.h has its decodes.

#include "lookm/server/calls.h"
#include "lookm/server/hook.h"
#include "lookm/server/room.h"
#include "lookm/server/settings.h"
#include "lookm/server/slots.h"

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

namespace lookm::server {

// Prompts that are read one after another: those, and whatever else has images, as llama-server
// fails where an image finds no room.
template <class Slot>
bool takes_turns(const Slot & slot) {
    using state = state_of<Slot>;
    return (slot.state == state::SLOT_STATE_STARTED ||
            slot.state == state::SLOT_STATE_PROCESSING_PROMPT) &&
           completes(slot) && !is_too_long(slot) &&
           (prompt_of(slot).has_image || the_hook().observes(prompt_of(slot)));
}

// A new prompt, in a slot whose cells it must not go on from.
template <class Slot>
void drop_foreign_cells(Slot & slot) {
    if (slot.state == state_of<Slot>::SLOT_STATE_STARTED && completes(slot) &&
        slot.prompt.n_tokens() > 0) {
        const auto n_common =
            static_cast<int32_t>(slot.prompt.tokens.get_common_prefix(slot.task->tokens));
        const auto n_up_to = [&slot](llama_pos pos) {
            return static_cast<int32_t>(slot.prompt.tokens.size_up_to_pos(pos + 1));
        };
        if (!slot.task->params.cache_prompt ||
            !the_hook().may_reuse(prompt_of(slot), n_common, {slot.prompt.n_tokens(), n_up_to})) {
            slot.prompt_clear();
        }
    }
}

// The slot's request has ended, maybe before its prompt did. What is half-read goes at once, before
// a slot file or the prompt cache takes it along; a prompt that was too long has not been begun.
template <class Slot>
void released(Slot & slot) {
    if (!current().active() || !completes(slot) || !the_hook().attached(slot.ctx_tgt)) {
        return;
    }
    the_hook().give_up(slot.task->id);
    const bool began = slot.stats.t_start > 0 && slot.task->n_tokens() < slot.n_ctx;
    if (began && the_hook().is_half_read(slot.id, slot.task->id)) {
        slot.prompt_clear();
    }
}

// llama-server aborts on a prompt without text after its last image: there is nothing to sample
// from.
template <class Slot>
bool ends_with_image(const Slot & slot) {
    const server_tokens & tokens = slot.task->tokens;
    return tokens.has_mtmd && tokens.size() > 0 && tokens[tokens.size() - 1] == LLAMA_TOKEN_NULL;
}

// Answers with an error what cannot be read at all, and frees what new prompts must not go on from.
template <class Slots, class Refuse>
void refuse_unreadable(Slots & slots, Refuse && refuse) {
    using slot_type = typename Slots::value_type;
    for (slot_type & slot : slots) {
        if (slot.state == state_of<slot_type>::SLOT_STATE_STARTED && ends_with_image(slot)) {
            refuse(slot, "prompt: it ends with an image; expected text after it");
        }
        drop_foreign_cells(slot);
        if (slot.state != state_of<slot_type>::SLOT_STATE_STARTED) {
            continue;
        }
        if (completes(slot)) {
            const std::string why =
                the_hook().refusal(prompt_of(slot), slot.prompt.n_tokens() == 0);
            if (!why.empty()) {
                refuse(slot, why.c_str());
            }
        } else if (the_hook().capped() && slot.task->n_tokens() > the_hook().slot_cells()) {
            refuse(slot, "input: it has more tokens than a slot has cells (--kv-cells), and only "
                         "prompts of completions "
                         "are compressed");
        }
    }
}

template <class Slot>
bool begins(const Slot & slot) {
    return slot.state == state_of<Slot>::SLOT_STATE_STARTED && !is_too_long(slot);
}

// Who was begun goes before who was not, and then who came first.
template <class Slot>
auto rank(const Slot & slot) {
    return std::pair(slot.state == state_of<Slot>::SLOT_STATE_STARTED, slot.task->id);
}

// Prompts of which one is read at a time.
template <class Slot>
struct turns {
    std::vector<const Slot *> all;
    Slot * next = nullptr; // whose turn it is

    void add(Slot & slot) {
        all.push_back(&slot);
        next = !next || rank(slot) < rank(*next) ? &slot : next;
    }
    bool hold(const Slot & slot) const {
        return std::find(all.begin(), all.end(), &slot) != all.end();
    }
    bool begins() const { return next && server::begins(*next); }
};

template <class Slots>
auto turns_of(Slots & slots, bool shared) {
    using slot_type = typename Slots::value_type;
    turns<slot_type> out;
    for (slot_type & slot : slots) {
        if (takes_turns(slot)) {
            out.add(slot);
        }
    }
    // any other prompt that finds no room beside the next has its turn, too, or it would wait while
    // others keep coming
    const int32_t n_next =
        out.begins() ? n_unread(*out.next) : 0; // else it grows, and is counted so
    const int32_t n_next_at_the_end = out.begins() ? n_at_the_end(slots, *out.next) : 0;
    for (slot_type & slot : slots) {
        if (shared && begins(slot) && !out.hold(slot) &&
            (n_unread(slot) > n_free(slots) - n_growing(slots, &slot) - n_next ||
             n_at_the_end(slots, slot) >
                 n_obtainable(slots, &slot) - n_answers(slots, &slot) - n_next_at_the_end)) {
            out.add(slot);
        }
    }
    return out;
}

// Whether the slot has tokens to decode in this round.
template <class Slot>
bool goes_on(const Slot & slot) {
    return begins(slot) || slot.state == state_of<Slot>::SLOT_STATE_PROCESSING_PROMPT ||
           answers(slot);
}

// A prompt that will be compressed is read by itself: rounds of its own go by turns with those of
// all other slots. reader: that prompt's slot. hold(slot) makes a slot sit this round out.
template <class Slots, class Hold>
void separate(Slots & slots, typename Slots::value_type & reader, Hold && hold) {
    const auto is_other = [&reader](const auto & slot) {
        return &slot != &reader && goes_on(slot);
    };
    if (std::none_of(slots.begin(), slots.end(), is_other)) {
        return;
    }
    const bool readers_turn = the_hook().take_turn();
    for (auto & slot : slots) {
        if (readers_turn ? is_other(slot) : &slot == &reader) {
            hold(slot);
        }
    }
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
    refuse_unreadable(slots, refuse);
    const bool shared = unified && !the_hook().capped(); // else each slot has cells of its own
    const turns<slot_type> in_turn = turns_of(slots, shared);
    slot_type * const next = in_turn.next;
    const bool fits = !next || !shared || has_room(slots, *next);
    const bool waits = !fits && in_turn.begins();
    // the room that was found for a prompt is its own until it is read: others that begin meanwhile
    // come on top of it
    int32_t n_left = INT32_MAX, n_left_at_the_end = INT32_MAX;
    if (shared && !waits) {
        n_left = n_free(slots) - n_growing(slots, next) - (next ? n_unread(*next) : 0);
        n_left_at_the_end = n_obtainable(slots, next) - n_answers(slots, next);
        if (next) {
            n_left_at_the_end -= in_turn.begins() ? n_at_the_end(slots, *next)
                                                  : n_unread(*next) + n_answer(slots, *next);
        }
    }
    const auto sit_out = [&held](slot_type & slot) {
        held.emplace_back(&slot, slot.state);
        slot.state = state::SLOT_STATE_WAIT_OTHER;
    };
    for (slot_type & slot : slots) {
        bool hold = in_turn.hold(slot) && (&slot != next || waits);
        // who came later may not take the room that it waits for
        hold = hold || (waits && begins(slot) && rank(slot) > rank(*next));
        if (begins(slot) && &slot != next && !hold) {
            const int32_t n = n_unread(slot), n_end = n_at_the_end(slots, slot);
            hold = n > n_left || n_end > n_left_at_the_end;
            n_left -= hold ? 0 : n;
            n_left_at_the_end -= hold ? 0 : n_end;
        }
        if (hold) {
            sit_out(slot);
        }
    }
    if (next && goes_on(*next) && completes(*next) && the_hook().observes(prompt_of(*next))) {
        separate(slots, *next, sit_out);
    }
    if (shared) { // llama-server frees cells of idle slots for answers, and not of those that are
                  // held
        constexpr int32_t n_at_once = 16; // tokens of an answer in a round, drafts among them
        const auto n = std::count_if(slots.begin(), slots.end(),
                                     [](const slot_type & slot) { return answers(slot); });
        free_cells(slots, static_cast<int32_t>(n) * n_at_once, [&held](const slot_type & slot) {
            return std::any_of(held.begin(), held.end(),
                               [&slot](const auto & one) { return one.first == &slot; });
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
        if (slot->state ==
            state_of<Slot>::SLOT_STATE_WAIT_OTHER) { // else it was given up meanwhile
            slot->state = was;
        }
    }
    the_hook().update_gauges();
}

} // namespace lookm::server
