#include "lookm/core/compression.h"

#include "lookm/core/bad_argument.h"

#include <algorithm>
#include <string_view>
#include <utility>
#include <variant>

namespace lookm {

namespace {

void check_share(const char * name, double share) {
    if (!(share >= 0.0 && share <= 1.0)) {
        throw bad_argument(name, number(share) + " is outside [0, 1]");
    }
}

void check_fraction(const char * name, double fraction) {
    if (!(fraction > 0.0 && fraction <= 1.0)) {
        throw bad_argument(name, number(fraction) + " is outside (0, 1]");
    }
}

std::string quoted(std::string_view text) {
    std::string out = "\"";
    return out.append(text).append("\"");
}

const method & find(std::string_view name) {
    std::string known;
    for (const method & m : methods()) {
        if (name == m.name) {
            return m;
        }
        known += known.empty() ? m.name : std::string(", ") + m.name;
    }
    throw bad_argument("method", quoted(name) + " is unknown; expected one of " + known);
}

template <class E, size_t n>
E parse(const char * argument, std::string_view word,
        const std::pair<const char *, E> (&choices)[n]) {
    std::string known;
    for (size_t i = 0; i < n; ++i) {
        if (word == choices[i].first) {
            return choices[i].second;
        }
        known += (i == 0 ? "" : i + 1 == n ? " or " : ", ") + std::string(choices[i].first);
    }
    throw bad_argument(argument, quoted(word) + " is unknown; expected " + known);
}

// Changes the method to what upstream's code does where it differs from the paper (docs/methods.md)
void as_upstream(method & m) {
    // upstream's mean is over all queries of the prompt, which ranks cells exactly as h2o does
    m.deviation = false;
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
        "scorer", word,
        {{"cumulative", scorer::cumulative}, {"window", scorer::window}, {"none", scorer::none}});
    const char * expected =
        m.random || m.sinks_only ? "none, as this method does not use scores" : nullptr;
    if (m.deviation) {
        expected = "cumulative or window, as deviations need scores";
    }
    if (expected && (s == scorer::none) == m.deviation) {
        throw bad_argument("scorer", quoted(word) + " does not go with method " + m.name +
                                         "; expected " + expected);
    }
    m.scorer = s;
}

} // namespace

method resolve(const compression & c) {
    method m = find(c.method);
    const fidelity of = parse<fidelity>(
        "fidelity", c.fidelity, {{"paper", fidelity::paper}, {"upstream", fidelity::upstream}});
    if (c.merge) {
        m.merge = parse<enum merge>("merge", *c.merge,
                                    {{"none", merge::none},
                                     {"average", merge::average},
                                     {"pivot", merge::pivot},
                                     {"weighted", merge::weighted}});
    }
    if (c.text_overflow) {
        m.text_overflow = parse<enum text_overflow>(
            "text_overflow", *c.text_overflow,
            {{"keep", text_overflow::keep}, {"evict", text_overflow::evict}});
    }
    if (of == fidelity::upstream && c.text_overflow == "evict") {
        throw bad_argument("text_overflow", "\"evict\" does not go with fidelity \"upstream\", "
                                            "which keeps all text; expected keep");
    }
    if (of == fidelity::upstream) {
        as_upstream(m);
    }
    if (c.scorer && m.evicts) {
        set_scorer(m, *c.scorer);
    }
    if (c.window && *c.window < 1) {
        throw bad_argument("window",
                           std::to_string(*c.window) + " is too small; expected 1 query or more");
    }
    if (m.prior == prior::attention && m.text_overflow == text_overflow::keep) {
        m.prior = prior::text; // all text stays, whatever attention it gets
    }
    m.visual_quota = c.visual_quota.value_or(m.visual_quota);
    if (!(m.visual_quota >= 0.0 && m.visual_quota <= 1.0)) {
        throw bad_argument("visual_quota", number(m.visual_quota) + " is outside [0, 1]");
    }
    m.window = c.window ? c.window : m.window;
    m.merge_keys = c.merge_keys;
    m.merge_within_modality = c.merge_within_modality;
    m.seed = c.seed;
    return m;
}

bool is_auto(const ratio_or_auto & kv_ratio) {
    const auto * const word = std::get_if<std::string>(&kv_ratio);
    if (word && *word != "auto") {
        throw bad_argument("kv_ratio",
                           quoted(*word) + " is unknown; expected a number in (0, 1] or \"auto\"");
    }
    return word != nullptr;
}

std::optional<auto_ratio> automatic(const compression & c) {
    check_fraction("quality", c.quality);
    check_fraction("ratio_floor", c.ratio_floor);
    check_fraction("ratio_ceiling", c.ratio_ceiling);
    if (c.ratio_floor > c.ratio_ceiling) {
        throw bad_argument("ratio_floor", number(c.ratio_floor) + " is more than ratio_ceiling " +
                                              number(c.ratio_ceiling) + "; expected at most that");
    }
    if (!is_auto(c.kv_ratio)) {
        return std::nullopt;
    }
    for (const auto & [name, part] : {std::pair("important_ratio", c.important_ratio),
                                      std::pair("recent_ratio", c.recent_ratio)}) {
        if (part) {
            throw bad_argument(
                name, number(*part) + " does not go with kv_ratio \"auto\", which is divided as "
                                      "the method does; expected none, or a number for kv_ratio");
        }
    }
    const method m = resolve(c);
    if (m.evicts && !needs_sums(m)) {
        throw bad_argument("kv_ratio", "\"auto\" does not go with method " + c.method +
                                           (c.scorer ? " and scorer " + quoted(*c.scorer) : "") +
                                           ", which observes no attention; expected a number in "
                                           "(0, 1], or a method with scores");
    }
    return auto_ratio{c.ratio_floor, c.ratio_ceiling, c.quality, m.recent_share};
}

ratios split(const compression & c) {
    if (const std::optional<auto_ratio> wanted = automatic(c)) {
        return wanted->at(wanted->ceiling);
    }
    const double kv_ratio = std::get<double>(c.kv_ratio);
    check_fraction("kv_ratio", kv_ratio);
    check_share("important_ratio", c.important_ratio.value_or(0.0));
    check_share("recent_ratio", c.recent_ratio.value_or(0.0));
    if (c.important_ratio.has_value() != c.recent_ratio.has_value()) {
        const double one = c.important_ratio ? *c.important_ratio : *c.recent_ratio;
        if (one > kv_ratio + 1e-9) {
            throw bad_argument(
                c.important_ratio ? "important_ratio" : "recent_ratio",
                number(one) + " is more than kv_ratio " + number(kv_ratio) +
                    ", which it is a part of; expected both parts, or a larger kv_ratio");
        }
    }
    ratios r;
    if (c.important_ratio && c.recent_ratio) {
        r = {*c.important_ratio, *c.recent_ratio};
    } else if (c.important_ratio) {
        r = {*c.important_ratio, std::max(0.0, kv_ratio - *c.important_ratio)};
    } else if (c.recent_ratio) {
        r = {std::max(0.0, kv_ratio - *c.recent_ratio), *c.recent_ratio};
    } else {
        r = divided(kv_ratio, find(c.method).recent_share);
    }
    // allow for rounding: decimal fractions that add up to 1 on paper may exceed it in binary
    if (r.important + r.recent > 1.0 + 1e-9) {
        throw bad_argument("important_ratio + recent_ratio",
                           number(r.important) + " + " + number(r.recent) + " exceeds 1");
    }
    if (r.important + r.recent <= 0.0) {
        throw bad_argument("important_ratio + recent_ratio",
                           "0 keeps nothing; expected a sum in (0, 1]");
    }
    return r;
}

} // namespace lookm
