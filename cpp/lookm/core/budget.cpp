#include "lookm/core/budget.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iterator>
#include <stdexcept>
#include <string>

namespace lookm {

int32_t window_of(const method & m, std::span<const token_kind> kind) {
    if (m.window) {
        return *m.window;
    }
    const auto text = std::find(kind.rbegin(), kind.rend(), token_kind::image) - kind.rbegin();
    return text > 0 && text < std::ssize(kind) ? static_cast<int32_t>(text) : default_window;
}

budget make_budget(const method & m, const ratios & r, std::span<const token_kind> kind,
                   int32_t n_prompt) {
    const auto n_kv = static_cast<int32_t>(kind.size());
    budget b;
    b.n_kv = n_kv;
    const int32_t n_all = std::max(n_prompt, n_kv);
    b.n_important = static_cast<int32_t>(std::floor(r.important * n_all));
    b.n_recent = static_cast<int32_t>(std::floor(r.recent * n_all));
    const budget all = {n_kv, n_kv - std::min(b.n_recent, n_kv), std::min(b.n_recent, n_kv)};
    if (!m.evicts || b.n_keep() >= n_kv) {
        return all;
    }
    if (m.sinks_only && b.n_keep() > 0) {
        // the sinks take n_sink of the important cells, the latest cells take the rest
        b = {n_kv, b.n_keep() - 1, 1};
    }
    if (m.recent_window && b.n_keep() > 0) {
        const int32_t n_recent = std::min(window_of(m, kind), b.n_keep());
        b = {n_kv, b.n_keep() - n_recent, n_recent};
    }
    if (m.keeps_question) {
        const auto n_question =
            std::find(kind.rbegin(), kind.rend(), token_kind::image) - kind.rbegin();
        const int32_t n_recent =
            std::max(b.n_recent, std::min(b.n_keep() / 2, static_cast<int32_t>(n_question)));
        b = {n_kv, b.n_keep() - n_recent, n_recent};
    }
    const auto candidates = kind.first(n_kv - b.n_recent);
    const auto n_text =
        static_cast<int32_t>(std::count(candidates.begin(), candidates.end(), token_kind::text));
    b.n_visual = std::min(static_cast<int32_t>(std::floor(m.visual_quota * b.n_important)),
                          static_cast<int32_t>(candidates.size()) - n_text);
    if (m.prior == prior::text && m.text_overflow == text_overflow::keep) {
        b.n_important = std::max(b.n_important, n_text + b.n_visual);
    }
    // the ratio may round down to no cells at all, and attention over no cells is undefined
    if (b.n_keep() == 0) {
        b.n_recent = 1;
    }
    return b;
}

} // namespace lookm
