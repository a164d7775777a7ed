#include "lookm/core/method.h"

#include <stdexcept>

namespace lookm {

namespace {

// Upstream forces four sinks in the merging methods without text prior, and only there.
constexpr method table[] = {
    {"origin", false, prior::none, merge::none, 0},
    {"h2o", true, prior::none, merge::none, 0},
    {"avg_merge", true, prior::none, merge::average, 4},
    {"weighted_merge", true, prior::none, merge::weighted, 4},
    {"pivot_merge", true, prior::none, merge::pivot, 4},
    {"text_prior_h2o", true, prior::text, merge::none, 0},
    {"text_prior_avg_merge", true, prior::text, merge::average, 0},
    {"text_prior_weighted_merge", true, prior::text, merge::weighted, 0},
    {"text_prior_pivot_merge", true, prior::text, merge::pivot, 0},
};

} // namespace

std::span<const method> methods() {
    return table;
}

const method & find_method(std::string_view name) {
    std::string known;
    for (const method & m : table) {
        if (name == m.name) {
            return m;
        }
        known += known.empty() ? m.name : std::string(", ") + m.name;
    }
    throw std::invalid_argument("method: \"" + std::string(name) + "\" is unknown; expected one of " + known);
}

text_overflow parse_text_overflow(std::string_view name) {
    if (name == "keep") {
        return text_overflow::keep;
    }
    if (name == "evict") {
        return text_overflow::evict;
    }
    throw std::invalid_argument("text_overflow: \"" + std::string(name) + "\" is unknown; expected keep or evict");
}

} // namespace lookm
