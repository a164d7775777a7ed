#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace lookm {

// What a slot of the server is doing.
enum class slot_phase {
    idle,
    waits_for_parent, // gets a copy of its parent's cells when that prompt has been read
    starts,           // its prompt has not begun
    reads,            // its prompt has begun
    answers,
};

// A slot, as far as it matters for whose turn it is. Numbers of tokens unless cells are named.
struct slot_view {
    int32_t id = 0;
    slot_phase phase = slot_phase::idle;
    int32_t task = -1;       // number of its request, which increases in order of arrival; -1: none
    int32_t parent = -1;     // task of the request that it is a child of; -1: none
    bool completes = false;  // its request asks for an answer, not for an embedding or a rank
    bool observed = false;   // its attention is summed up, so no other slot may be read with it
    bool has_images = false; // llama-server fails if an image finds no free cells
    int32_t n_prompt = 0;    // of the request's prompt
    int32_t n_held = 0;      // of which the slot holds cells, maybe those of an earlier request
    int32_t n_cells = 0;     // cells that only this slot has: they become free if it is cleared
    int32_t n_ctx = 0;       // largest number for a prompt and its answer
    int32_t n_answered = 0;
    std::optional<int32_t> n_answer_max; // limit of the answer
    double ratio = 1.0;                  // fraction of an observed prompt's cells that stay
    int64_t last_used = -1;              // when its last request ended, in any unit
};

// The cache, and the cache of a draft model, which keeps every token.
struct cache_view {
    bool shared = false; // by all slots; if not, cells are no concern here
    int32_t n_cells = 0;
    int32_t n_free = 0;
    std::optional<int32_t> n_free_draft; // none: there is no draft model
};

// What one round of the server's loop does. Slots by their ids.
struct round_plan {
    std::vector<int32_t> held;    // slots that sit this round out
    std::vector<int32_t> cleared; // slots whose cells are freed, in this order, before the round
    int32_t reader = -1;          // the only slot with an observed prompt that is read; -1: none
    // the task of the observed prompt that takes turns with other slots; -1: it need not
    int32_t alternates = -1;
};

// Plans the next round.
//
// Observed prompts, and prompts with images, are read one at a time. A prompt that starts needs
// free cells for itself, and then for its answer in addition to the answers under way; until then
// it waits, and so do all prompts that came later. Slots without work give up their cells for it.
// An observed prompt and all other slots take turns: readers_turn says whose the round is where
// both could go on (turn_balance.h).
round_plan plan_round(std::span<const slot_view> slots, const cache_view & cache,
                      bool readers_turn);

} // namespace lookm
