#include "lookm/core/method.h"

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

} // namespace

std::span<const method> methods() {
    return table;
}

} // namespace lookm
