// The part of a session that goes on from one prompt and its answer to the next.

#include "lookm/core/bad_argument.h"
#include "lookm/core/state_bytes.h"
#include "lookm/host/log.h"
#include "lookm/session/saved_parts.h"
#include "lookm/session/session.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>
#include <utility>

namespace lookm {

namespace {

constexpr int32_t no_cap = 1 << 29;
constexpr int32_t cells_per_part = 8; // of a cap, on average
constexpr uint32_t state_version = 2;

std::vector<int32_t> sizes(const std::vector<prompt_part> & parts) {
    std::vector<int32_t> out;
    for (const prompt_part & p : parts) {
        out.push_back(p.n_cells);
    }
    return out;
}

struct counts {
    int32_t prompt, text, image, context, squeezed;

    bool make_sense() const { return std::min({prompt, text, image, context, squeezed}) >= 0; }
};

} // namespace

// Each turn is read into the cache that the last one was answered from.
void session::check_can_talk() const {
    if (room_->keeps_other_types()) {
        throw bad_argument("kept_type_k, kept_type_v",
                           "a conversation is read and answered in one cache; "
                           "expected none (type_k and type_v hold from the start)");
    }
}

int32_t session::n_ctx_that_counts() const {
    return kv_cache::size_changes_rope(room_->get()) ? room_->size() : 0;
}

// Whether turns may give up cells, and are scored.
bool session::squeezes_with(const compress_options & o) const {
    const bool needs = room_->cap() > 0 || o.ratios.important + o.ratios.recent < 1.0;
    return room_->unsupported().empty() && o.method.evicts && needs;
}

session_stats session::stats_so_far() const {
    const int32_t n_answered = n_past_ - answer_pos_ + n_forgotten_;
    session_stats s = stats_;
    s.prompt_cells += n_answered;
    s.text_cells += n_answered;
    s.squeezed_cells += n_forgotten_;
    return s;
}

// Scores of every layer, in the order of cells; nothing where none are taken.
std::vector<std::vector<float>> session::scores() const {
    compressor * const c = room_->compressor();
    std::vector<std::vector<float>> out;
    for (size_t i = 0; c && c->observed() && i < c->kv().layers().size(); ++i) {
        out.push_back(c->tap().scores(i, c->kv().cells(0)));
    }
    return out;
}

// Cells that were read while nothing was to be evicted have no scores: none then.
void session::restore_scores(const std::vector<std::vector<float>> & scores) {
    if (compressor * const c = room_->compressor()) {
        if (!squeezes_turns_) {
            c->observe_nothing();
            return;
        }
        c->observe_all(squeezing_);
        const std::vector<cell> cells = c->kv().cells(0);
        for (size_t i = 0; c->observed() && !cells.empty() && i < c->kv().layers().size(); ++i) {
            const std::vector<float> none(cells.size() * c->kv().layers()[i].k.n_head_kv, 0.0f);
            c->tap().restore(i, cells, scores.empty() ? none : scores[i]);
        }
        c->tap().disarm();
    }
}

void session::carry(int32_t n_cells) {
    const std::vector<std::vector<float>> kept = scores();
    room_->move(n_cells, true);
    restore_scores(kept);
}

// What is left of each part, the answer now one of them. Shares are of that, so that a part of an
// earlier turn gives up more with every turn that needs it to. Every part keeps a cell: under a cap
// the oldest are taken together.
std::vector<prompt_part> session::parts_so_far() const {
    std::vector<prompt_part> parts;
    if (reading_) {
        parts = reading_->parts();
        const std::vector<int32_t> held = reading_->held();
        for (size_t i = 0; i < parts.size(); ++i) {
            parts[i].n_cells = held[i];
            parts[i].whole = false;
        }
    }
    if (n_past_ > answer_pos_) {
        parts.push_back(
            {n_past_ - answer_pos_, token_kind::text, squeezing_.method.prior == prior::none});
    }
    const size_t n_most =
        room_->cap() > 0 ? std::max(1, room_->cap() / cells_per_part) : parts.size();
    while (parts.size() > n_most) {
        parts[1] = {parts[0].n_cells + parts[1].n_cells, token_kind::image, true};
        parts.erase(parts.begin());
    }
    return parts;
}

void session::converse(const std::string & text, std::span<const image_source> images,
                       std::span<const std::string> contexts, const compression & how,
                       int32_t n_answer, const progress_fn & progress) {
    turn(!talking_, text, images, contexts, how, n_answer, progress);
}

void session::converse_anew(const std::string & text, std::span<const image_source> images,
                            std::span<const std::string> contexts, const compression & how,
                            int32_t n_answer, const progress_fn & progress) {
    turn(true, text, images, contexts, how, n_answer, progress);
}

void session::turn(bool begins, const std::string & text, std::span<const image_source> images,
                   std::span<const std::string> contexts, const compression & how, int32_t n_answer,
                   const progress_fn & progress) {
    check_can_talk();
    check(how);
    prompt p = tokenize(model_.get(), mmproj_.get(), text, markers_, images, contexts, begins);
    if (!begins && pending_) {
        if (p.chunks.empty() || p.chunks.front().image) {
            p.chunks.insert(p.chunks.begin(), prompt_chunk());
        }
        p.chunks.front().tokens.insert(p.chunks.front().tokens.begin(), *pending_);
        p.chunks.front().kind.insert(p.chunks.front().kind.begin(), token_kind::text);
    }
    check_fits(p);
    check_ends_with_text(p);
    const compress_options options = checked(how);
    const double ratio = options.ratios.important + options.ratios.recent;
    const bool squeezes = squeezes_with(options);
    if (squeezes && needs_squares(options.method)) {
        throw bad_argument("method", "\"" + how.method +
                                         "\" does not go with a conversation, as it needs the "
                                         "attention of all queries to all cells");
    }

    std::vector<prompt_part> parts = begins ? std::vector<prompt_part>() : parts_so_far();
    const std::vector<int32_t> held = sizes(parts);
    const std::vector<prompt_part> more = parts_of(p, options.method.prior, -1);
    parts.insert(parts.end(), more.begin(), more.end());
    n_answer = std::clamp(n_answer, 0, n_ctx());
    const bool capped = room_->cap() > 0 && squeezes;
    prompt_cap plan(std::move(parts), capped ? room_->cap() : no_cap, options_.n_batch, n_answer,
                    held);
    const int32_t n_held = begins ? 0 : plan.n_held();
    // sliding windows keep more than what compression has left of the other layers
    const int32_t n_there = begins ? 0 : std::max(n_held, room_->n_used().value_or(0));
    const int32_t room = room_->cap() > 0 ? room_->cap() : n_ctx();
    if (!capped && n_there + p.n_cells() > room) {
        throw bad_argument("prompt",
                           std::to_string(p.n_cells()) + " cells after the conversation's " +
                               std::to_string(n_there) + " do not fit into " +
                               (room_->cap() > 0 ? "kv_cells " : "n_ctx ") + std::to_string(room));
    }

    const session_stats before = begins ? session_stats() : stats_so_far();
    try {
        squeezes_turns_ = squeezes;
        if (begins) {
            clear();
            room_->open(p.n_cells() + n_answer);
            squeezing_ = options;
            restore_scores({});
        } else {
            squeezing_ = options;
            carry(n_there + p.n_cells() + n_answer);
        }
        stats_ = {};
        stats_.method = how.method;
        stats_.text_cells = before.text_cells;
        stats_.image_cells = before.image_cells;
        stats_.context_cells = before.context_cells;
        stats_.squeezed_cells = before.squeezed_cells;
        reading_ = std::move(plan);
        forget_scores_at_ = 0;
        pending_.reset();
        sampler_.reset();
        prompt_logits_.clear();
        if (squeezes) {
            room_->compressor()->resume();
        }
        process(p, progress);
        stats_.prompt_cells = before.prompt_cells + p.n_cells();
        const size_t per_cell =
            room_->compressor() ? room_->compressor()->kv().bytes_per_cell() : 0;
        stats_.bytes_used_before = per_cell * reading_->n_held();
        if (squeezes && ratio < 1.0) {
            const auto n_most = static_cast<int32_t>(ratio * stats_.prompt_cells);
            squeeze(reading_->n_held(), [&] { return reading_->leave(n_most); });
        }
        if (capped) {
            make_room(reading_->n_answer());
        }
        if (squeezes) {
            room_->compressor()->tap().disarm();
            stats_.score_seconds = room_->compressor()->score_seconds();
            stats_.prefill_seconds -= stats_.score_seconds; // the tap runs inside it
            stats_.compress_bytes_peak = room_->compressor()->peak_bytes();
        }
        stats_.kept_cells = reading_->n_held();
        if (const compressor * c = room_->compressor()) {
            stats_.kept_of = c->count(0, reading_->kinds());
            stats_.note = starved({stats_.text_cells, stats_.image_cells, stats_.context_cells},
                                  stats_.kept_of);
        } else {
            stats_.kept_of = {stats_.text_cells, stats_.image_cells, stats_.context_cells};
        }
        stats_.bytes_used_after = per_cell * reading_->n_held();
        stats_.bytes_allocated_before = stats_.bytes_allocated_after = room_->bytes();
        answer_from_here();
        talking_ = ready_ = true;
    } catch (...) {
        abandon();
        throw;
    }
}

std::vector<uint8_t> session::state() const {
    if (!talking_) {
        throw bad_argument("state", "no conversation is under way; expected one");
    }
    state_writer w;
    w.put(state_version);
    w.put(n_ctx_that_counts());
    w.put<int32_t>(n_past_);
    w.put<int32_t>(pending_ ? *pending_ : LLAMA_TOKEN_NULL);
    const session_stats s = stats_so_far();
    w.put(counts{s.prompt_cells, s.text_cells, s.image_cells, s.context_cells, s.squeezed_cells});
    w.put(saved(parts_so_far()));
    w.put(room_->sequence());
    const std::vector<std::vector<float>> all = scores();
    w.put<uint64_t>(all.size());
    for (const std::vector<float> & layer : all) {
        w.put(layer);
    }
    return std::move(w.out);
}

void session::restore(std::span<const uint8_t> state, const compression & how) {
    check_can_talk();
    check(how);
    state_reader r(state);
    if (r.get<uint32_t>() != state_version) {
        state_reader::fail();
    }
    if (const auto n = r.get<int32_t>(); n != n_ctx_that_counts()) {
        throw bad_argument("state", "it was made with n_ctx " + std::to_string(n) +
                                        ", which decides how this " +
                                        "model rotates positions, expected " +
                                        std::to_string(n_ctx_that_counts()));
    }
    const auto n_past = r.get<int32_t>();
    const auto pending = r.get<int32_t>();
    const auto c = r.get<counts>();
    const std::vector<prompt_part> parts = restored(r.get_all<saved_part>());
    const std::vector<int32_t> held = sizes(parts);
    const auto sequence = r.get_all<uint8_t>();
    std::vector<std::vector<float>> all(std::min<uint64_t>(r.get<uint64_t>(), 1 << 16));
    for (std::vector<float> & layer : all) {
        layer = r.get_all<float>();
    }
    if (!r.empty()) {
        state_reader::fail();
    }
    const bool is_token =
        pending == LLAMA_TOKEN_NULL ||
        (pending >= 0 && pending < llama_vocab_n_tokens(llama_model_get_vocab(model_.get())));
    if (!is_token || !c.make_sense() || n_past < 0 || n_past > no_cap) {
        state_reader::fail();
    }
    const int64_t n_in_all = std::accumulate(held.begin(), held.end(), int64_t(0));
    if (n_in_all > (room_->cap() > 0 ? room_->cap() : n_ctx())) {
        throw bad_argument("state",
                           "its " + std::to_string(n_in_all) + " cells do not fit into " +
                               (room_->cap() > 0 ? "kv_cells " + std::to_string(room_->cap())
                                                 : "n_ctx " + std::to_string(n_ctx())));
    }
    const auto n_held = static_cast<int32_t>(n_in_all);
    clear();
    squeezing_ = checked(how);
    squeezes_turns_ = squeezes_with(squeezing_);
    room_->restore(sequence, std::max(n_held, std::min(n_past, llama_model_n_swa(model_.get()))));
    llama_memory_t memory = llama_get_memory(room_->get());
    const bool has_positions =
        llama_memory_seq_pos_max(memory, 0) == n_past - 1; // a turn ends with text, which stays
    compressor * const compressor = room_->compressor();
    const size_t n_layers = compressor ? compressor->kv().layers().size() : 0;
    bool fits = all.empty() || all.size() == n_layers;
    for (size_t i = 0; fits && i < all.size(); ++i) {
        fits =
            all[i].size() == static_cast<size_t>(n_held * compressor->kv().layers()[i].k.n_head_kv);
    }
    if (!has_positions || !fits ||
        (compressor ? compressor->kv().n_used() : room_->n_used().value_or(n_held)) != n_held) {
        clear();
        state_reader::fail();
    }
    restore_scores(all);
    reading_ = prompt_cap(parts, no_cap, options_.n_batch, 1, held);
    n_past_ = n_past;
    answer_from_here();
    if (pending != LLAMA_TOKEN_NULL) {
        pending_ = pending;
    }
    stats_ = {};
    stats_.method = how.method;
    stats_.prompt_cells = c.prompt;
    stats_.text_cells = c.text;
    stats_.image_cells = c.image;
    stats_.context_cells = c.context;
    stats_.squeezed_cells = c.squeezed;
    stats_.kept_cells = n_held;
    talking_ = true;
}

} // namespace lookm
