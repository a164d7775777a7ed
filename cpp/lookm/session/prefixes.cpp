#include "lookm/session/prefixes.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace lookm {

namespace {

size_t n_common(std::span<const piece_key> a, std::span<const piece_key> b) {
    const size_t n = std::min(a.size(), b.size());
    return std::mismatch(a.begin(), a.begin() + n, b.begin()).first - a.begin();
}

} // namespace

std::vector<piece_key> keys_of(const prompt & p) {
    std::vector<piece_key> keys;
    size_t n_until_question = 0;
    for (const prompt_piece & piece : p.pieces()) {
        const prompt_chunk & chunk = p.chunks[piece.chunk];
        if (chunk.image) {
            keys.push_back({{}, {}, chunk.image_key()});
            if (keys.back().image.empty()) {
                keys.pop_back();
                break;
            }
        } else {
            const auto first = chunk.tokens.begin() + piece.first;
            const auto kind = chunk.kind.begin() + piece.first;
            keys.push_back({{first, first + piece.n}, {kind, kind + piece.n}, {}});
        }
        if (p.is_evictable(piece)) {
            n_until_question = keys.size();
        }
    }
    keys.resize(n_until_question);
    return keys;
}

size_t prefix::bytes() const {
    return std::accumulate(
        pieces.begin(), pieces.end(), copy.bytes(), [](size_t n, const piece_key & key) {
            return n + key.image.size() + key.kind.size() + key.tokens.size() * sizeof(llama_token);
        });
}

prefix_match prefixes::find(std::span<const piece_key> prompt, const prefix_need & need) {
    prefix_match best;
    for (const std::shared_ptr<const prefix> & kept : kept_) {
        if (kept->ends.back().n_cells > need.n_room) {
            continue;
        }
        size_t n = n_common(kept->pieces, prompt);
        while (n > 0 && kept->ends[n - 1].n_cells > need.n_most) {
            --n;
        }
        const bool whole = n == kept->pieces.size();
        // sums hold the attention of all queries of the whole
        const bool fits = whole ? (!need.sums || !kept->copy.sums.empty()) &&
                                      (!need.squares || !kept->copy.sums.squares.empty())
                                : need.can_cut && !need.sums;
        if (fits && n > best.n_pieces) {
            best = {kept, n};
        }
    }
    if (best.from) {
        kept_.use(best.from);
    }
    return best;
}

void prefixes::keep(prefix made, bool can_cut) {
    auto kept = std::make_shared<const prefix>(std::move(made));
    if (!kept_.fits(kept->bytes())) {
        return;
    }
    // what the new one can be cut down to need not be kept twice
    kept_.drop_if([&](const prefix & old) {
        const bool begins = n_common(old.pieces, kept->pieces) == old.pieces.size();
        const bool same = begins && old.pieces.size() == kept->pieces.size();
        return same || (begins && can_cut && old.copy.sums.empty());
    });
    kept_.add(std::move(kept));
}

} // namespace lookm
