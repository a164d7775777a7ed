#include "lookm/session/saved_parts.h"

#include "lookm/core/state_bytes.h"

namespace lookm {

std::vector<saved_part> saved(std::span<const prompt_part> parts) {
    std::vector<saved_part> out;
    for (const prompt_part & p : parts) {
        out.push_back({p.n_cells, static_cast<uint8_t>(p.kind), p.evictable, p.whole});
    }
    return out;
}

std::vector<prompt_part> restored(std::span<const saved_part> parts) {
    std::vector<prompt_part> out;
    for (const saved_part & p : parts) {
        const auto kind = static_cast<token_kind>(p.kind);
        const bool is_kind = kind == token_kind::image || kind == token_kind::text;
        if (!is_kind || p.evictable > 1 || p.whole > 1 || p.n_cells < 0) {
            state_reader::fail();
        }
        out.push_back({p.n_cells, kind, p.evictable == 1, p.whole == 1});
    }
    return out;
}

} // namespace lookm
