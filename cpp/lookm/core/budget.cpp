#include "lookm/core/budget.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iterator>
#include <stdexcept>
#include <string>

namespace lookm {

namespace {

std::string number(double x) {
    char text[32];
    std::snprintf(text, sizeof(text), "%g", x);
    return text;
}

void check_share(const char * name, double share) {
    if (!(share >= 0.0 && share <= 1.0)) {
        throw std::invalid_argument(std::string(name) + ": " + number(share) + " is outside [0, 1]");
    }
}

} // namespace

int32_t window_of(const method & m, std::span<const token_kind> kind) {
    if (m.window) {
        return *m.window;
    }
    const auto text = std::find(kind.rbegin(), kind.rend(), token_kind::image) - kind.rbegin();
    return text > 0 && text < std::ssize(kind) ? static_cast<int32_t>(text) : default_window;
}

ratios split_ratio(double kv_ratio, std::optional<double> important_ratio, std::optional<double> recent_ratio,
                   double recent_share) {
    if (!(kv_ratio > 0.0 && kv_ratio <= 1.0)) {
        throw std::invalid_argument("kv_ratio: " + number(kv_ratio) + " is outside (0, 1]");
    }
    check_share("important_ratio", important_ratio.value_or(0.0));
    check_share("recent_ratio", recent_ratio.value_or(0.0));
    if (important_ratio.has_value() != recent_ratio.has_value()) {
        const double one = important_ratio ? *important_ratio : *recent_ratio;
        if (one > kv_ratio + 1e-9) {
            throw std::invalid_argument(std::string(important_ratio ? "important_ratio: " : "recent_ratio: ") +
                                        number(one) + " is more than kv_ratio " + number(kv_ratio) +
                                        ", which it is a part of; expected both parts, or a larger kv_ratio");
        }
    }
    ratios r;
    if (important_ratio && recent_ratio) {
        r = {*important_ratio, *recent_ratio};
    } else if (important_ratio) {
        r = {*important_ratio, std::max(0.0, kv_ratio - *important_ratio)};
    } else if (recent_ratio) {
        r = {std::max(0.0, kv_ratio - *recent_ratio), *recent_ratio};
    } else {
        r = {kv_ratio * (1.0 - recent_share), kv_ratio * recent_share};
    }
    // a decimal pair such as 0.9 + 0.1 may exceed 1 by a rounding error, never by more
    if (r.important + r.recent > 1.0 + 1e-9) {
        throw std::invalid_argument("important_ratio + recent_ratio: " + number(r.important) + " + " +
                                    number(r.recent) + " exceeds 1");
    }
    if (r.important + r.recent <= 0.0) {
        throw std::invalid_argument("important_ratio + recent_ratio: 0 keeps nothing; expected a sum in (0, 1]");
    }
    return r;
}

budget make_budget(const method & m, const ratios & r, std::span<const token_kind> kind, int32_t n_prompt) {
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
        b = {n_kv, b.n_keep() - 1, 1}; // which sinks and later cells divide among themselves
    }
    if (m.recent_window && b.n_keep() > 0) {
        const int32_t n_recent = std::min(window_of(m, kind), b.n_keep());
        b = {n_kv, b.n_keep() - n_recent, n_recent};
    }
    if (m.keeps_question) {
        const auto n_question = std::find(kind.rbegin(), kind.rend(), token_kind::image) - kind.rbegin();
        const int32_t n_recent = std::max(b.n_recent, std::min(b.n_keep() / 2, static_cast<int32_t>(n_question)));
        b = {n_kv, b.n_keep() - n_recent, n_recent};
    }
    const auto candidates = kind.first(n_kv - b.n_recent);
    const auto n_text = static_cast<int32_t>(std::count(candidates.begin(), candidates.end(), token_kind::text));
    b.n_visual = std::min(static_cast<int32_t>(std::floor(m.visual_quota * b.n_important)),
                          static_cast<int32_t>(candidates.size()) - n_text);
    if (m.prior == prior::text && m.text_overflow == text_overflow::keep) {
        b.n_important = std::max(b.n_important, n_text + b.n_visual);
    }
    // a share too small for the prompt would keep no cell at all, and attention over no cell is not defined
    if (b.n_keep() == 0) {
        b.n_recent = 1;
    }
    return b;
}

} // namespace lookm
