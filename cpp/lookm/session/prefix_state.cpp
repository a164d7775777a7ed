#include "lookm/session/prefix_state.h"

#include "lookm/core/bad_argument.h"
#include "lookm/core/state_bytes.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>

namespace lookm {

namespace {

constexpr uint32_t state_version = 1;
constexpr uint64_t n_most = uint64_t(1) << 24; // pieces

uint64_t get_count(state_reader & r) {
    const auto n = r.get<uint64_t>();
    if (n > n_most || n > r.n_left() / sizeof(uint64_t)) {
        state_reader::fail();
    }
    return n;
}

std::vector<token_kind> get_kinds(state_reader & r) {
    std::vector<token_kind> kinds = r.get_all<token_kind>();
    for (const token_kind kind : kinds) {
        if (kind != token_kind::text && kind != token_kind::image) {
            state_reader::fail();
        }
    }
    return kinds;
}

bool is_key(const piece_key & key) {
    return key.tokens.empty() != key.image.empty() && key.tokens.size() == key.kind.size();
}

// Each piece of text has a cell and a position for each of its tokens; an image may have fewer
// positions than cells (M-RoPE) or more (pruning).
bool fit(const std::vector<prefix::end> & ends, const std::vector<piece_key> & pieces) {
    if (ends.size() != pieces.size() || ends.empty()) {
        return false;
    }
    prefix::end last = {0, 0};
    for (size_t i = 0; i < ends.size(); ++i) {
        const int64_t n_cells = int64_t(ends[i].n_cells) - last.n_cells;
        const int64_t n_pos = int64_t(ends[i].n_past) - last.n_past;
        const bool exact = n_cells == n_pos && n_cells == std::ssize(pieces[i].tokens);
        if (!is_key(pieces[i]) || n_pos < 1 || n_cells < 1 || (pieces[i].image.empty() && !exact)) {
            return false;
        }
        last = ends[i];
    }
    return true;
}

// Whether so many cells come before each end. With M-RoPE, an image has no more positions than
// cells; else positions are those of the cells, with gaps where an image was pruned.
bool has_these_ends(llama_context * ctx, const std::vector<prefix::end> & ends) {
    const llama_rope_type rope = llama_model_rope_type(llama_get_model(ctx));
    const bool mrope = rope == LLAMA_ROPE_TYPE_MROPE || rope == LLAMA_ROPE_TYPE_IMROPE;
    const std::vector<llama_pos> positions = kv_cache::positions(ctx, 0);
    prefix::end last = {0, 0};
    for (const prefix::end & end : ends) {
        const auto at = std::lower_bound(positions.begin(), positions.end(), end.n_past);
        const bool exact = at - positions.begin() == end.n_cells && at != positions.begin() &&
                           *std::prev(at) == end.n_past - 1;
        if (mrope || positions.empty() ? end.n_past - last.n_past > end.n_cells - last.n_cells
                                       : !exact) {
            return false;
        }
        last = end;
    }
    return true;
}

} // namespace

std::vector<uint8_t> state_of(const prefix & kept, const sized_context & context) {
    state_writer w;
    w.put(state_version);
    w.put(context.size_that_counts());
    w.put<uint64_t>(kept.pieces.size());
    for (const piece_key & key : kept.pieces) {
        w.put(key.tokens);
        w.put(key.kind);
        w.put(key.image);
    }
    w.put(kept.ends);
    w.put(kept.copy.cells);
    w.put(kept.copy.kinds);
    kept.copy.sums.put(w);
    return std::move(w.out);
}

prefix prefix_of(std::span<const uint8_t> state, sized_context & context) {
    state_reader r(state);
    if (r.get<uint32_t>() != state_version) {
        state_reader::fail();
    }
    context.check_size_of_state(r.get<int32_t>());
    prefix out;
    out.pieces.resize(get_count(r));
    for (piece_key & key : out.pieces) {
        key.tokens = r.get_all<llama_token>();
        key.kind = get_kinds(r);
        key.image = r.get_all<char>();
    }
    out.ends = r.get_all<prefix::end>();
    out.copy.cells = r.get_all<uint8_t>();
    out.copy.kinds = get_kinds(r);
    out.copy.sums = sequence_sums::get(r);
    if (!r.empty() || !fit(out.ends, out.pieces)) {
        state_reader::fail();
    }
    const prefix::end last = out.ends.back();
    if (last.n_cells > context.most()) {
        throw bad_argument("state", "its " + std::to_string(last.n_cells) +
                                        " cells do not fit into n_ctx " +
                                        std::to_string(context.most()));
    }
    context.restore_from_rest(out.copy.cells, last.n_cells);
    compressor * const c = context.compressor();
    if (!has_these_ends(context.get(), out.ends)) {
        state_reader::fail();
    }
    const bool knows_kinds = !out.copy.kinds.empty();
    const llama_pos before = out.ends.size() > 1 ? out.ends[out.ends.size() - 2].n_past : 0;
    const llama_pos highest = llama_memory_seq_pos_max(llama_get_memory(context.get()), 0);
    if (highest < before || highest >= last.n_past ||
        (out.pieces.back().image.empty() && highest != last.n_past - 1) ||
        context.n_used().value_or(last.n_cells) != last.n_cells ||
        (knows_kinds && out.copy.kinds.size() != static_cast<size_t>(last.n_cells)) ||
        knows_kinds != (c != nullptr) ||
        !(c ? out.copy.sums.fit(*c, last.n_cells) : out.copy.sums.empty())) {
        state_reader::fail();
    }
    return out;
}

} // namespace lookm
