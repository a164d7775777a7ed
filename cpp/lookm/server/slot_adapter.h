#pragma once

// The only file that names fields of llama-server's slots: it turns them into values, and does to
// them what was planned with these values. The types of slots are defined in server-context.cpp,
// which only context.cpp includes, so everything here is a template.

#include "lookm/core/turns.h"
#include "lookm/server/calls.h"
#include "lookm/server/hook.h"

#include <algorithm>
#include <cstdint>
#include <ios>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
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

inline std::vector<token_kind> kinds_of_tokens(const server_tokens & tokens, size_t first) {
    std::vector<token_kind> out;
    for (size_t i = first; i < tokens.size(); ++i) {
        out.push_back(tokens[i] == LLAMA_TOKEN_NULL ? token_kind::image : token_kind::text);
    }
    return out;
}

// Adapters that change cells, with their scales.
inline std::string names_of(const std::vector<common_adapter_lora_info> & adapters) {
    std::ostringstream out;
    for (const common_adapter_lora_info & adapter : adapters) {
        if (adapter.scale != 0.0F) {
            out << std::hexfloat << adapter.scale << ' ' << adapter.path << '\n';
        }
    }
    return out.str();
}

// The prompt of a slot that has a request.
template <class Slot>
slot_prompt prompt_of(const Slot & slot) {
    const server_tokens & tokens = slot.task->tokens;
    bool has_image = false;
    for (size_t i = 0; tokens.has_mtmd && !has_image && i < tokens.size(); ++i) {
        has_image = tokens[i] == LLAMA_TOKEN_NULL;
    }
    const auto kind = [&tokens](const packed_cells & packed) {
        return kinds_of_tokens(tokens, packed.n > 0 ? tokens.size_up_to_pos(packed.pos + 1) : 0);
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
            names_of(slot.lora),
            kind,
            parts};
}

// Before a round: the prompts that start

template <class Slot>
bool starts(const Slot & slot) {
    return slot.state == state_of<Slot>::SLOT_STATE_STARTED;
}

// llama-server aborts on such a prompt: there is no text after the image to sample from.
template <class Slot>
bool ends_with_image(const Slot & slot) {
    const server_tokens & tokens = slot.task->tokens;
    return tokens.has_mtmd && tokens.size() > 0 && tokens[tokens.size() - 1] == LLAMA_TOKEN_NULL;
}

template <class Slot>
bool holds_cells(const Slot & slot) {
    return slot.prompt.n_tokens() > 0;
}

template <class Slot>
void clear(Slot & slot) {
    slot.prompt_clear();
}

// Whether a prompt that starts may continue from the cells that its slot holds.
template <class Slot>
bool may_reuse_cells(const Slot & slot) {
    const auto n_common =
        static_cast<int32_t>(slot.prompt.tokens.get_common_prefix(slot.task->tokens));
    const auto n_up_to = [&slot](llama_pos pos) {
        return static_cast<int32_t>(slot.prompt.tokens.size_up_to_pos(pos + 1));
    };
    return slot.task->params.cache_prompt &&
           server_hook().may_reuse(prompt_of(slot), n_common, {slot.prompt.n_tokens(), n_up_to});
}

// A prompt that starts has tokens in common with what its slot holds, up to where two images of the
// latter meet: llama-server would refuse the prompt, as its keep_first() throws there.
template <class Slot>
void cut_between_images(Slot & slot) {
    const server_tokens & held = slot.prompt.tokens;
    const auto n = static_cast<int32_t>(held.get_common_prefix(slot.task->tokens));
    if (n == 0 || n == slot.prompt.n_tokens() || held[n - 1] != LLAMA_TOKEN_NULL ||
        held[n] != LLAMA_TOKEN_NULL) {
        return;
    }
    server_tokens common = first_of(held, n);
    for (llama_context * ctx : {slot.ctx_tgt, slot.ctx_dft}) {
        if (ctx && !llama_memory_seq_rm(llama_get_memory(ctx), slot.id, common.pos_next(), -1)) {
            clear(slot); // as a memory that cannot be cut is read anew
            return;
        }
    }
    slot.prompt.tokens = std::move(common);
}

// Whether a slot's prompt may come from host memory and go there. The cells of a draft model are
// not kept, and adapters that begin in the middle of a prompt (aLoRA) change while it is read.
template <class Slot>
bool may_keep(const Slot & slot) {
    return !slot.ctx_dft && slot.task->params.cache_prompt &&
           std::none_of(slot.lora.begin(), slot.lora.end(), [](const auto & adapter) {
               return adapter.ptr && llama_adapter_get_alora_n_invocation_tokens(adapter.ptr) > 0;
           });
}

// The same for the logits of the prompt's last token: samplers on the device make none.
template <class Slot>
bool may_keep_logits(const Slot & slot) {
    return may_keep(slot) && !slot.task->params.sampling.backend_sampling;
}

// The slot holds the cells of the first n tokens of its prompt, and nothing else. llama-server
// reads anew unless it has a checkpoint of a memory that cannot be cut there. An empty one says
// that the memory is in that state already.
template <class Slot>
void holds(Slot & slot, const server_tokens & tokens, int32_t n, bool can_cut) {
    slot.prompt.tokens = first_of(tokens, n);
    if (!can_cut) {
        slot.prompt.checkpoints.clear();
        auto & here = slot.prompt.checkpoints.emplace_back();
        here.update_pos(n, 0, slot.prompt.tokens.pos_next());
    }
}

// A prompt that starts in an empty slot gets the cells of the same prompt or of a full prefix, if
// they are kept: llama-server then goes on from them.
template <class Slot>
void go_on_from_memory(Slot & slot) {
    hook & h = server_hook();
    if (!may_keep(slot)) {
        return;
    }
    const slot_prompt p = prompt_of(slot);
    if (auto same = may_keep_logits(slot) ? h.find_same(p, slot.task->tokens) : nullptr) {
        if (h.repeat(p, std::move(same))) {
            // llama-server decodes the last token, for the logits
            holds(slot, slot.task->tokens, p.n_tokens - 1, /*can_cut =*/false);
            return;
        }
        clear(slot);
    }
    const auto [from, n] = h.prefixes().find(slot.task->tokens, p.adapters, h.n_from_prefix(p));
    if (!from) {
        return;
    }
    if (!h.prefixes().restore(slot.id, *from) ||
        h.n_used(slot.id) != static_cast<int32_t>(from->tokens.size())) {
        clear(slot); // read it from the start
        return;
    }
    holds(slot, from->tokens, n, h.can_cut());
    h.restored(p, from, kinds_of_tokens(from->tokens, 0), n);
}

// Whether an image of n cells, which is the next piece of the slot's prompt, is the last one that
// another prompt can go on from.
template <class Slot>
bool ends_prefix(const Slot & slot, int32_t n) {
    return slot.prompt.n_tokens() + n ==
           end_of_last_image(slot.task->tokens, server_hook().n_from_prefix(prompt_of(slot)));
}

// That image has been read: all that has been read so far is kept.
template <class Slot>
void keep_prefix(const Slot & slot, int32_t n) {
    if (!may_keep(slot)) {
        return;
    }
    const int32_t end = slot.prompt.n_tokens() + n;
    server_hook().keep_prefix(prompt_of(slot), first_of(slot.task->tokens, end), end);
}

// All tokens of the slot's prompt have been read: they are kept if another prompt can go on from
// text after the last image.
template <class Slot>
void keep_text_prefix(const Slot & slot) {
    if (!may_keep(slot)) {
        return;
    }
    hook & h = server_hook();
    const slot_prompt p = prompt_of(slot);
    const server_tokens & tokens = slot.task->tokens;
    const int32_t n = h.n_from_prefix(p), end = h.prefixes().last_end(tokens, n);
    if (end > end_of_last_image(tokens, n)) {
        h.keep_prefix(p, tokens, end);
    }
}

// The prompt of a slot has been compressed: what is left is kept.
template <class Slot>
void keep_compressed(const Slot & slot) {
    if (may_keep_logits(slot)) {
        server_hook().keep_compressed(prompt_of(slot), slot.task->tokens);
    }
}

// A round: from slots to values, and from the plan to slots

template <class Slot>
slot_phase phase_of(const Slot & slot) {
    using state = state_of<Slot>;
    switch (slot.state) {
        case state::SLOT_STATE_WAIT_OTHER:
            return slot_phase::waits_for_parent;
        case state::SLOT_STATE_STARTED:
            return slot_phase::starts;
        case state::SLOT_STATE_PROCESSING_PROMPT:
            return slot_phase::reads;
        case state::SLOT_STATE_DONE_PROMPT:
        case state::SLOT_STATE_GENERATING:
            return slot_phase::answers;
        default:
            return slot_phase::idle;
    }
}

template <class Slot>
slot_view view_of(const Slot & slot) {
    slot_view v;
    v.id = slot.id;
    v.phase = phase_of(slot);
    v.n_held = slot.prompt.n_tokens();
    v.n_ctx = slot.n_ctx;
    v.last_used = slot.t_last_used;
    if (!slot.task) {
        return v;
    }
    v.task = slot.task->id;
    v.parent = slot.task->id_parent;
    v.completes = completes(slot);
    v.n_prompt = slot.task->n_tokens();
    if (v.phase == slot_phase::answers) {
        v.n_answered = static_cast<int32_t>(slot.stats.n_gen);
    }
    if (slot.n_predict_max >= 0) {
        v.n_answer_max = slot.n_predict_max;
    }
    if (v.completes && (v.phase == slot_phase::starts || v.phase == slot_phase::reads)) {
        const slot_prompt p = prompt_of(slot);
        v.observed = server_hook().observes(p);
        v.has_images = p.has_image;
        v.ratio = p.ratio.most;
    }
    return v;
}

// shared: one cache serves all slots, and their cells matter.
template <class Slots>
std::vector<slot_view> views_of(const Slots & slots, bool shared) {
    const hook & h = server_hook();
    std::vector<slot_view> views;
    int32_t n_held = 0;
    for (const auto & slot : slots) {
        views.push_back(view_of(slot));
        views.back().n_cells = shared ? h.n_used(slot.id) : 0;
        n_held += views.back().n_cells;
    }
    const bool some_have_cells_in_common = shared && n_held > h.n_cells() - h.n_free();
    for (slot_view & v : views) {
        v.n_cells = some_have_cells_in_common ? h.n_used_alone(v.id) : v.n_cells;
    }
    return views;
}

template <class Slots>
cache_view view_of_cache(const Slots & slots, bool shared) {
    cache_view v;
    v.shared = shared;
    v.n_cells = server_hook().n_cells();
    v.n_free = server_hook().n_free();
    if (const llama_context * draft = slots.front().ctx_dft) {
        v.n_free_draft = static_cast<int32_t>(llama_n_ctx(draft));
        for (const auto & slot : slots) {
            *v.n_free_draft -= slot.prompt.n_tokens();
        }
    }
    return v;
}

// Slots that sit a round out: llama-server passes over them as if they waited for a parent.
template <class Slot>
class held_slots {
  public:
    void hold(Slot & slot) {
        slots_.emplace_back(&slot, slot.state);
        slot.state = state_of<Slot>::SLOT_STATE_WAIT_OTHER;
    }
    void let_go() const {
        for (const auto & [slot, was] : slots_) {
            // a slot that was released during the round has another state
            if (slot->state == state_of<Slot>::SLOT_STATE_WAIT_OTHER) {
                slot->state = was;
            }
        }
    }

  private:
    std::vector<std::pair<Slot *, state_of<Slot>>> slots_;
};

template <class Slots>
auto apply(const round_plan & plan, Slots & slots) {
    using slot_type = typename Slots::value_type;
    const auto slot_with = [&slots](int32_t id) -> slot_type & {
        return *std::find_if(slots.begin(), slots.end(),
                             [id](const slot_type & slot) { return slot.id == id; });
    };
    for (const int32_t id : plan.cleared) {
        clear(slot_with(id));
    }
    held_slots<slot_type> held;
    for (const int32_t id : plan.held) {
        held.hold(slot_with(id));
    }
    return held;
}

// Around a decode

template <class Slot>
std::optional<slot_answer> answer_of(const Slot & slot) {
    if (slot.state != state_of<Slot>::SLOT_STATE_GENERATING || !completes(slot)) {
        return std::nullopt;
    }
    return slot_answer{slot.id, slot.task->id, slot.task->tokens.pos_next()};
}

// Whether the last token of the slot's prompt is in the batch that is decoded, or was in an
// earlier one whose logits have not been used yet.
template <class Slot>
bool has_read_prompt(const Slot & slot) {
    return slot.state == state_of<Slot>::SLOT_STATE_DONE_PROMPT && completes(slot);
}

template <class Slot>
int32_t id_of(const Slot & slot) {
    return slot.id;
}

template <class Slot>
int32_t task_of(const Slot & slot) {
    return slot.task->id;
}

template <class Slot>
bool waits_for(const Slot & slot, int32_t parent) {
    return slot.state == state_of<Slot>::SLOT_STATE_WAIT_OTHER && slot.task->id_parent == parent;
}

// llama-server sets adapters before it decodes a batch, but not before an image: those of the last
// batch, which may be another slot's, would be in force. Adapters that begin in the middle of a
// prompt (aLoRA) are not in force before that.
template <class Slot>
void use_adapters(const Slot & slot, llama_context * ctx) {
    std::vector<common_adapter_lora_info> own = slot.lora;
    for (common_adapter_lora_info & adapter : own) {
        if (adapter.ptr && llama_adapter_get_alora_n_invocation_tokens(adapter.ptr) > 0 &&
            slot.prompt.n_tokens() < slot.alora_invocation_start) {
            adapter.scale = 0.0F;
        }
    }
    common_set_adapter_lora(ctx, own);
}

template <class Slot>
const mtmd_context * projector_of(const Slot & slot) {
    return slot.mctx;
}

template <class Slot>
bool uses_drafts(const Slot & slot) {
    return slot.spec != nullptr;
}

// Tokens of the slot's prompt after those that the slot holds.
template <class Slot>
int32_t n_unread(const Slot & slot) {
    return std::max(0, slot.task->n_tokens() - slot.prompt.n_tokens());
}

// Whether the slot's prompt has an image after the tokens that the slot holds.
template <class Slot>
bool image_follows(const Slot & slot) {
    return slot.task &&
           end_of_last_image(slot.task->tokens, slot.task->n_tokens()) > slot.prompt.n_tokens();
}

// When a request ends

template <class Slot>
llama_context * context_of(const Slot & slot) {
    return slot.ctx_tgt;
}

template <class Slot>
bool is_attached(const Slot & slot) {
    return server_hook().attached(slot.ctx_tgt);
}

// Whether reading had begun. A prompt that is too long is refused before.
template <class Slot>
bool began(const Slot & slot) {
    return slot.stats.t_start > 0 && slot.task->n_tokens() < slot.n_ctx;
}

} // namespace lookm::server
