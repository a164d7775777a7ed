#pragma once

// What we ask of llama-server's slots. They are types of server-context.cpp, seen by context.cpp
// alone: hence templates, and states by way of the slot's type.

#include "lookm/server/calls.h"
#include "lookm/server/hook.h"

#include <cstdint>
#include <vector>

namespace lookm::server {

template <class Slot>
using state_of = decltype(Slot::state);

// Whether the slot's request is one whose prompt may be compressed: no embedding, no rerank.
template <class Slot>
bool completes(const Slot & slot) {
    return slot.task && (slot.task->type == SERVER_TASK_TYPE_COMPLETION ||
                         slot.task->type == SERVER_TASK_TYPE_INFILL);
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
        for (size_t i = packed.n > 0 ? tokens.size_up_to_pos(packed.pos + 1) : 0; i < tokens.size();
             ++i) {
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
                const bool whole = mtmd_decode_use_non_causal(slot.mctx, chunk);
                out.push_back({.n_cells = n, .kind = token_kind::image, .whole = whole});
                i += n;
                continue;
            }
            if (out.empty() || out.back().kind == token_kind::image) {
                out.push_back({.n_cells = 0, .kind = token_kind::text});
            }
            ++out.back().n_cells;
            ++i;
        }
        return out;
    };
    return {slot.id,
            slot.task->id,
            slot.task->n_tokens(),
            has_image,
            unpack_ratio(slot.task->params.n_discard),
            kind,
            parts};
}

// llama-server refuses it as soon as it goes on, so that it need not wait for anything.
template <class Slot>
bool is_too_long(const Slot & slot) {
    return slot.state == state_of<Slot>::SLOT_STATE_STARTED && completes(slot) &&
           slot.task->n_tokens() >= slot.n_ctx;
}

// Whether its answer is under way.
template <class Slot>
bool answers(const Slot & slot) {
    return slot.state == state_of<Slot>::SLOT_STATE_GENERATING ||
           slot.state == state_of<Slot>::SLOT_STATE_DONE_PROMPT;
}

} // namespace lookm::server
