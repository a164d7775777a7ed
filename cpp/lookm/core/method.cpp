#include "lookm/core/method.h"

#include <cstdio>
#include <iterator>
#include <stdexcept>
#include <utility>

namespace lookm {

namespace {

// Column by column: name, scorer, prior, merge; what else differs from a row of zeros is named.
constexpr method table[] = {
    {.name = "origin", .scorer = scorer::none, .prior = prior::none, .merge = merge::none, .evicts = false},
    {.name = "h2o", .scorer = scorer::cumulative, .prior = prior::none, .merge = merge::none},
    {.name = "snapkv",
     .scorer = scorer::window,
     .prior = prior::none,
     .merge = merge::none,
     .n_pool = 5,
     .recent_window = true,
     .window = 64},
    {.name = "snapkv_question",
     .scorer = scorer::window,
     .prior = prior::none,
     .merge = merge::none,
     .n_pool = 5,
     .recent_window = true},
    {.name = "roco", .scorer = scorer::cumulative, .prior = prior::none, .merge = merge::none, .deviation = true},
    {.name = "avg_merge", .scorer = scorer::cumulative, .prior = prior::none, .merge = merge::average},
    {.name = "weighted_merge", .scorer = scorer::cumulative, .prior = prior::none, .merge = merge::weighted},
    {.name = "pivot_merge", .scorer = scorer::cumulative, .prior = prior::none, .merge = merge::pivot},
    {.name = "text_prior_h2o", .scorer = scorer::cumulative, .prior = prior::text, .merge = merge::none},
    {.name = "text_prior_avg_merge", .scorer = scorer::cumulative, .prior = prior::text, .merge = merge::average},
    {.name = "text_prior_weighted_merge", .scorer = scorer::cumulative, .prior = prior::text, .merge = merge::weighted},
    {.name = "text_prior_pivot_merge", .scorer = scorer::cumulative, .prior = prior::text, .merge = merge::pivot},
    {.name = "streaming_llm",
     .scorer = scorer::none,
     .prior = prior::none,
     .merge = merge::none,
     .n_sink = 4,
     .sinks_only = true},
    {.name = "random", .scorer = scorer::none, .prior = prior::none, .merge = merge::none, .random = true},
    {.name = "lookm_plus",
     .scorer = scorer::window,
     .prior = prior::text,
     .merge = merge::none,
     .n_pool = 5,
     .spread = 0.5,
     .recent_share = 0.1,
     .keeps_question = true,
     .text_overflow = text_overflow::evict,
     .visual_quota = 0.5},
};

std::string quoted(std::string_view text) {
    return "\"" + std::string(text) + "\"";
}

const method & find(std::string_view name) {
    std::string known;
    for (const method & m : table) {
        if (name == m.name) {
            return m;
        }
        known += known.empty() ? m.name : std::string(", ") + m.name;
    }
    throw std::invalid_argument("method: " + quoted(name) + " is unknown; expected one of " + known);
}

template <class E, size_t n>
E parse(const char * argument, std::string_view word, const std::pair<const char *, E> (&choices)[n]) {
    std::string known;
    for (size_t i = 0; i < n; ++i) {
        if (word == choices[i].first) {
            return choices[i].second;
        }
        known += (i == 0 ? "" : i + 1 == n ? " or " : ", ") + std::string(choices[i].first);
    }
    throw std::invalid_argument(std::string(argument) + ": " + quoted(word) + " is unknown; expected " + known);
}

// What upstream's code does other than the paper says (docs/methods.md)
void as_upstream(method & m) {
    m.deviation = false; // its mean is over all queries of the prompt, so it ranks as h2o does
    if (m.merge == merge::none) {
        return;
    }
    if (m.prior == prior::none) {
        m.n_sink = 4;
    }
    if (m.merge == merge::average) {
        m.filter = filter::misaligned;
    } else if (m.merge == merge::weighted) {
        m.filter = filter::similar;
    }
}

void set_scorer(method & m, const std::string & word) {
    const enum scorer s = parse<enum scorer>(
        "scorer", word, {{"cumulative", scorer::cumulative}, {"window", scorer::window}, {"none", scorer::none}});
    const char * expected = m.random || m.sinks_only ? "none, as this method looks at no scores" : nullptr;
    if (m.deviation) {
        expected = "cumulative or window, as deviations need scores";
    }
    if (expected && (s == scorer::none) == m.deviation) {
        throw std::invalid_argument("scorer: " + quoted(word) + " does not go with method " + m.name + "; expected " +
                                    expected);
    }
    m.scorer = s;
}

} // namespace

std::span<const method> methods() {
    return table;
}

method resolve(std::string_view name, const method_options & o) {
    method m = find(name);
    const fidelity of =
        parse<fidelity>("fidelity", o.fidelity, {{"paper", fidelity::paper}, {"upstream", fidelity::upstream}});
    if (o.text_overflow) {
        m.text_overflow = parse<enum text_overflow>("text_overflow", *o.text_overflow,
                                                    {{"keep", text_overflow::keep}, {"evict", text_overflow::evict}});
    }
    if (of == fidelity::upstream && o.text_overflow == "evict") {
        throw std::invalid_argument("text_overflow: \"evict\" does not go with fidelity \"upstream\", where text is a "
                                    "floor; expected keep");
    }
    if (of == fidelity::upstream) {
        as_upstream(m);
    }
    if (o.scorer && m.evicts) {
        set_scorer(m, *o.scorer);
    }
    if (o.window && *o.window < 1) {
        throw std::invalid_argument("window: " + std::to_string(*o.window) + " is too small; expected 1 query or more");
    }
    m.visual_quota = o.visual_quota.value_or(m.visual_quota);
    if (!(m.visual_quota >= 0.0 && m.visual_quota <= 1.0)) {
        char number[32];
        std::snprintf(number, sizeof(number), "%g", m.visual_quota);
        throw std::invalid_argument(std::string("visual_quota: ") + number + " is outside [0, 1]");
    }
    m.window = o.window ? o.window : m.window;
    m.merge_keys = o.merge_keys;
    m.merge_within_modality = o.merge_within_modality;
    m.seed = o.seed;
    return m;
}

} // namespace lookm
