#include "lookm/session/conversation.h"

#include "lookm/core/bad_argument.h"
#include "lookm/core/state_bytes.h"
#include "lookm/core/stopwatch.h"
#include "lookm/session/checks.h"
#include "lookm/session/prompt_reader.h"
#include "lookm/session/saved_parts.h"

#include <algorithm>
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

// The part of session_stats that a state keeps.
struct saved_counts {
    int32_t prompt, text, image, context, squeezed;

    bool make_sense() const { return std::min({prompt, text, image, context, squeezed}) >= 0; }
};

// The answer's last token is not in the cache yet: it is read with the next turn.
void insert_pending(prompt & p, llama_token token) {
    if (p.chunks.empty() || p.chunks.front().image) {
        p.chunks.insert(p.chunks.begin(), prompt_chunk());
    }
    prompt_chunk & first = p.chunks.front();
    first.tokens.insert(first.tokens.begin(), token);
    first.kind.insert(first.kind.begin(), token_kind::text);
}

} // namespace

int32_t conversation::saved::n_cells() const {
    int64_t n = 0;
    for (const prompt_part & p : parts) {
        n += p.n_cells;
    }
    return static_cast<int32_t>(std::min<int64_t>(n, INT32_MAX));
}

// Each turn is read into the cache that the last one was answered from.
void conversation::check_types() const {
    if (sequence_.context().keeps_other_types()) {
        throw bad_argument("kept_type_k, kept_type_v",
                           "a conversation is read and answered in one cache; "
                           "expected none (type_k and type_v hold from the start)");
    }
}

// Whether turns may give up cells, and are scored.
bool conversation::squeezes_with(const compress_options & o) const {
    const bool needs = sequence_.context().cap() > 0 || evicts(o);
    return sequence_.context().unsupported().empty() && o.method.evicts && needs;
}

// The answer's cells count as the prompt's.
session_stats conversation::stats_so_far() const {
    const int32_t n_answered = answer_.n_cells() + answer_.n_forgotten();
    session_stats s = sequence_.stats();
    s.prompt_cells += n_answered;
    s.text_cells += n_answered;
    s.squeezed_cells += answer_.n_forgotten();
    return s;
}

// What is left of each part; the answer is one of them now. Shares are of what is left, so that a
// part of an earlier turn gives up more with every turn that needs it to. Every part keeps a cell:
// under a cap the oldest parts are joined.
std::vector<prompt_part> conversation::parts_so_far() const {
    std::vector<prompt_part> parts;
    bool evicts_text = false;
    if (const std::optional<capped_reader> & reader = sequence_.reader()) {
        evicts_text = reader->options().method.prior == prior::none;
        parts = reader->plan().parts();
        const std::vector<int32_t> held = reader->plan().held();
        for (size_t i = 0; i < parts.size(); ++i) {
            parts[i].n_cells = held[i];
            parts[i].whole = false;
        }
    }
    if (answer_.n_cells() > 0) {
        parts.push_back({answer_.n_cells(), token_kind::text, evicts_text});
    }
    const int32_t cap = sequence_.context().cap();
    const size_t n_most = cap > 0 ? std::max(1, cap / cells_per_part) : parts.size();
    while (parts.size() > n_most) {
        parts[1] = {parts[0].n_cells + parts[1].n_cells, token_kind::image, true};
        parts.erase(parts.begin());
    }
    return parts;
}

conversation::turn conversation::prepare(const prompt_request & request, bool begins) const {
    check_types();
    const opened_model & opened = sequence_.opened();
    const sized_context & context = sequence_.context();
    prompt p = opened.tokenize(request, begins);
    if (!begins && answer_.pending()) {
        insert_pending(p, *answer_.pending());
    }
    check_fits(p, context.limit(), opened.mmproj.get(), opened.options);
    check_ends_with_text(p);
    const compress_options options = checked(request.how);
    const bool is_squeezed = squeezes_with(options);
    if (is_squeezed && needs_squares(options.method)) {
        throw bad_argument("method", "\"" + request.how.method +
                                         "\" does not go with a conversation, as it needs the "
                                         "attention of all queries to all cells");
    }

    std::vector<prompt_part> parts = begins ? std::vector<prompt_part>() : parts_so_far();
    const std::vector<int32_t> held = sizes(parts);
    std::vector<prompt_part> more = parts_of(p, opened.mmproj.get());
    set_evictable(more, options.method.prior);
    parts.insert(parts.end(), more.begin(), more.end());
    const int32_t n_answer = std::clamp(request.n_answer, 0, context.limit());
    const bool is_capped = context.cap() > 0 && is_squeezed;
    prompt_cap plan(std::move(parts), is_capped ? context.cap() : no_cap, opened.options.n_batch,
                    n_answer, held);
    // sliding windows keep more than what compression has left of the other layers
    const int32_t n_there = begins ? 0 : std::max(plan.n_held(), context.n_used().value_or(0));
    const int32_t n_most = context.cap() > 0 ? context.cap() : context.limit();
    if (!is_capped && n_there + p.n_cells() > n_most) {
        throw bad_argument(
            "prompt", std::to_string(p.n_cells()) + " cells after the conversation's " +
                          std::to_string(n_there) + " do not fit into " +
                          (context.cap() > 0 ? "kv_cells " : "n_ctx ") + std::to_string(n_most));
    }
    return {.read = std::move(p),
            .reader = capped_reader(options, std::move(plan)),
            .before = begins ? session_stats() : stats_so_far(),
            .n_there = n_there,
            .n_answer = n_answer,
            .begins = begins,
            .is_capped = is_capped,
            .is_squeezed = is_squeezed,
            .ratio = options.ratios.important + options.ratios.recent,
            .automatic = options.automatic};
}

void conversation::compress(const turn & next) {
    session_stats & stats = sequence_.stats();
    double ratio = next.ratio;
    const auto n_most = [&stats](double r) { return static_cast<int32_t>(r * stats.prompt_cells); };
    const stopwatch watch;
    if (next.automatic) {
        const auto held = sequence_.reader()->held_after_leave();
        const ratio_choice chosen = choose_ratio(
            *next.automatic, [&](double r, double /*least*/) { return held(n_most(r)); });
        ratio = chosen.ratio;
        stats.chosen_ratio = ratio;
        stats.attention_held = chosen.held;
    } else if (ratio < 1.0) {
        stats.attention_held = sequence_.reader()->held_after_leave()(n_most(ratio));
    }
    stats.compress_seconds += watch.seconds();
    if (ratio < 1.0) {
        sequence_.leave(n_most(ratio));
    }
}

void conversation::read(turn && next, const progress_fn & progress) {
    sized_context & context = sequence_.context();
    const int32_t n_more = next.read.n_cells();
    const std::string method = next.reader.options().method.name;
    if (next.begins) {
        context.open(n_more + next.n_answer);
    }
    sequence_.keep(next.is_squeezed ? sequence::turns::scored : sequence::turns::unscored);
    sequence_.set_reader(std::move(next.reader));
    if (next.begins) {
        sequence_.restore_scores({});
    } else {
        sequence_.carry(next.n_there + n_more + next.n_answer);
    }
    session_stats & stats = sequence_.stats();
    stats = {};
    stats.method = method;
    stats.text_cells = next.before.text_cells;
    stats.image_cells = next.before.image_cells;
    stats.context_cells = next.before.context_cells;
    stats.squeezed_cells = next.before.squeezed_cells;
    answer_.drop();
    compressor * const c = sequence_.compressor();
    if (next.is_squeezed) {
        c->resume();
    }
    read_prompt(sequence_, next.read, progress);
    stats.prompt_cells = next.before.prompt_cells + n_more;
    const prompt_cap & plan = sequence_.reader()->plan();
    const size_t per_cell = c ? c->kv().bytes_per_cell() : 0;
    stats.bytes_used_before = per_cell * plan.n_held();
    if (next.is_squeezed) {
        compress(next);
    }
    if (next.is_capped) {
        sequence_.make_room(plan.n_answer());
    }
    if (next.is_squeezed) {
        c->tap().disarm();
        stats.score_seconds = c->score_seconds();
        stats.prefill_seconds -= stats.score_seconds; // the tap runs inside it
        stats.compress_bytes_peak = c->peak_bytes();
    }
    stats.kept_cells = plan.n_held();
    const cell_counts all = {stats.text_cells, stats.image_cells, stats.context_cells};
    stats.kept_of = c ? c->count(0, plan.kinds()) : all;
    stats.note = c ? starved(all, stats.kept_of) : "";
    stats.bytes_used_after = per_cell * plan.n_held();
    stats.bytes_allocated_before = stats.bytes_allocated_after = context.bytes();
    answer_.from_here(true);
}

std::vector<uint8_t> conversation::state() const {
    if (!is_under_way()) {
        throw bad_argument("state", "no conversation is under way; expected one");
    }
    state_writer w;
    w.put(state_version);
    w.put(sequence_.context().size_that_counts());
    w.put<int32_t>(sequence_.n_past());
    w.put<int32_t>(answer_.pending().value_or(LLAMA_TOKEN_NULL));
    const session_stats s = stats_so_far();
    w.put(saved_counts{s.prompt_cells, s.text_cells, s.image_cells, s.context_cells,
                       s.squeezed_cells});
    w.put(lookm::saved(parts_so_far()));
    w.put(sequence_.context().sequence());
    const std::vector<std::vector<float>> all = sequence_.scores();
    w.put<uint64_t>(all.size());
    for (const std::vector<float> & layer : all) {
        w.put(layer);
    }
    return std::move(w.out);
}

conversation::saved conversation::parse(std::span<const uint8_t> state) const {
    check_types();
    state_reader r(state);
    if (r.get<uint32_t>() != state_version) {
        state_reader::fail();
    }
    sequence_.context().check_size_of_state(r.get<int32_t>());
    saved out;
    out.n_past = r.get<int32_t>();
    out.pending = r.get<int32_t>();
    const auto c = r.get<saved_counts>();
    out.parts = restored(r.get_all<saved_part>());
    out.sequence = r.get_all<uint8_t>();
    out.scores.resize(std::min<uint64_t>(r.get<uint64_t>(), 1 << 16));
    for (std::vector<float> & layer : out.scores) {
        layer = r.get_all<float>();
    }
    if (!r.empty()) {
        state_reader::fail();
    }
    const bool is_token =
        out.pending == LLAMA_TOKEN_NULL ||
        (out.pending >= 0 && out.pending < llama_vocab_n_tokens(sequence_.opened().vocab()));
    if (!is_token || !c.make_sense() || out.n_past < 0 || out.n_past > no_cap) {
        state_reader::fail();
    }
    out.stats.prompt_cells = c.prompt;
    out.stats.text_cells = c.text;
    out.stats.image_cells = c.image;
    out.stats.context_cells = c.context;
    out.stats.squeezed_cells = c.squeezed;
    out.stats.kept_cells = out.n_cells();
    const sized_context & context = sequence_.context();
    if (out.n_cells() > (context.cap() > 0 ? context.cap() : context.limit())) {
        throw bad_argument("state",
                           "its " + std::to_string(out.n_cells()) + " cells do not fit into " +
                               (context.cap() > 0 ? "kv_cells " + std::to_string(context.cap())
                                                  : "n_ctx " + std::to_string(context.limit())));
    }
    return out;
}

void conversation::restore(const saved & state, const compression & how) {
    sized_context & context = sequence_.context();
    const int32_t n_cells = state.n_cells();
    const int32_t n_swa = llama_model_n_swa(sequence_.opened().weights.get());
    context.restore(state.sequence, std::max(n_cells, std::min(state.n_past, n_swa)));
    // a turn ends with text, whose last cell stays
    const llama_pos last = llama_memory_seq_pos_max(llama_get_memory(context.get()), 0);
    compressor * const c = sequence_.compressor();
    const size_t n_layers = c ? c->kv().layers().size() : 0;
    bool fits = state.scores.empty() || state.scores.size() == n_layers;
    for (size_t i = 0; fits && i < state.scores.size(); ++i) {
        const auto n = static_cast<size_t>(n_cells * c->kv().layers()[i].k.n_head_kv);
        fits = state.scores[i].size() == n;
    }
    const int32_t n_used = c ? c->kv().n_used() : context.n_used().value_or(n_cells);
    if (last != state.n_past - 1 || !fits || n_used != n_cells) {
        state_reader::fail();
    }
    const compress_options options = checked(how);
    sequence_.keep(squeezes_with(options) ? sequence::turns::scored : sequence::turns::unscored);
    sequence_.set_reader(
        {options, prompt_cap(state.parts, no_cap, sequence_.opened().options.n_batch, 1,
                             sizes(state.parts))});
    sequence_.restore_scores(state.scores);
    sequence_.set_n_past(state.n_past);
    answer_.from_here(false);
    if (state.pending != LLAMA_TOKEN_NULL) {
        answer_.set_pending(state.pending);
    }
    sequence_.stats() = state.stats;
    sequence_.stats().method = how.method;
}

} // namespace lookm
