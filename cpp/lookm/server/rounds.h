#pragma once

// One round of llama-server's loop: which prompts continue in it. decodes.h has its decodes.

#include "lookm/core/turns.h"
#include "lookm/server/hook.h"
#include "lookm/server/joined_prompts.h"
#include "lookm/server/pruned_pieces.h"
#include "lookm/server/settings.h"
#include "lookm/server/slot_adapter.h"

#include <string>
#include <vector>

namespace lookm::server {

// The slot's request has ended, maybe before its prompt had been read. Cells of a prompt that was
// read in part are freed at once, before a slot file or the prompt cache takes them along.
template <class Slot>
void released(Slot & slot) {
    end_joining(slot);
    pruned().unpin(id_of(slot));
    if (!server_settings().active() || !completes(slot) || !is_attached(slot)) {
        return;
    }
    server_hook().give_up(task_of(slot));
    if (began(slot) && server_hook().is_half_read(id_of(slot), task_of(slot))) {
        clear(slot);
    }
}

// Why a prompt that starts cannot be read at all; "" if it can.
template <class Slot>
std::string refusal_of(const Slot & slot) {
    const slot_prompt p = prompt_of(slot);
    if (completes(slot)) {
        return server_hook().refusal(p, !holds_cells(slot));
    }
    return server_hook().capped() && p.n_tokens > server_hook().slot_cells()
               ? "input: it has more tokens than a slot has cells (--kv-cells), and only prompts "
                 "of completions are compressed"
               : "";
}

// Answers prompts that cannot be read with an error, and frees cells that new prompts must not
// continue from.
template <class Slots, class Refuse>
void refuse_unreadable(Slots & slots, Refuse && refuse) {
    for (auto & slot : slots) {
        if (starts(slot) && ends_with_image(slot)) {
            refuse(slot, "prompt: it ends with an image; expected text after it");
        }
        if (starts(slot) && completes(slot) && holds_cells(slot) && !may_reuse_cells(slot)) {
            clear(slot);
        }
        if (starts(slot)) {
            if (const std::string why = refusal_of(slot); !why.empty()) {
                refuse(slot, why.c_str());
            }
        }
    }
}

// Begins a round. Returns the slots that sit it out, for after_round.
template <class Slots, class Refuse>
auto before_round(Slots & slots, const common_params & params, Refuse && refuse) {
    for (auto & slot : slots) {
        if (starts(slot) && !pruned().pin(id_of(slot), task_of(slot), slot.task->tokens)) {
            refuse(slot, "image: its request is gone");
        }
    }
    if (!server_settings().active()) {
        for (auto & slot : slots) {
            if (starts(slot)) {
                cut_between_images(slot);
            }
        }
        return held_slots<typename Slots::value_type>();
    }
    refuse_unreadable(slots, refuse);
    // else each slot has cells of its own
    const bool shared = params.kv_unified && !server_hook().capped();
    std::vector<slot_view> views = views_of(slots, shared);
    cache_view cache = view_of_cache(slots, shared);
    count_waiting(views, cache);
    auto held = apply(server_hook().plan_next(views, cache), slots);
    for (auto & slot : slots) {
        if (starts(slot) && completes(slot) && !holds_cells(slot) &&
            server_hook().is_reader(id_of(slot))) {
            go_on_from_memory(slot);
        }
        if (starts(slot)) { // slots that sit it out do not
            cut_between_images(slot);
        }
    }
    return held;
}

template <class Slot>
void after_round(const held_slots<Slot> & held) {
    if (server_settings().active()) {
        held.let_go();
        server_hook().update_gauges();
    }
}

} // namespace lookm::server
