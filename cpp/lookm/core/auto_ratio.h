#pragma once

#include "lookm/core/budget.h"
#include "lookm/core/method.h"
#include "lookm/core/rank.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <span>

namespace lookm {

// What kv_ratio "auto" asks for: the least ratio from floor to ceiling whose kept cells hold the
// share `quality` of the attention that counts for scores.
struct auto_ratio {
    double floor, ceiling, quality;
    double recent_share; // the recent ratio's part of a ratio (method.recent_share)

    ratios at(double ratio) const { return divided(ratio, recent_share); }
    // The budget of a ratio; 1 keeps all cells, however its parts are rounded.
    budget budget_at(const method & m, double ratio, std::span<const token_kind> kind,
                     int32_t n_prompt) const;
};

// Share of the attention that goes to kept cells: the mean over all KV heads of all layers of
// (sum over kept cells) / (sum over all cells). A head without attention has nothing to lose: it
// counts as 1.
class held_attention {
  public:
    // One layer: sum [n_head_kv, n_kv], kept [n_head_kv, n_keep].
    void add(std::span<const float> sum, std::span<const int32_t> kept, int64_t n_head_kv);
    // nullopt without layers, and where the sums are not finite
    std::optional<double> mean() const;
    // The most that the mean can become with n_heads in all
    double at_most(int64_t n_heads) const {
        return (shares_ + static_cast<double>(n_heads - n_heads_)) / static_cast<double>(n_heads);
    }

  private:
    double shares_ = 0.0;
    int64_t n_heads_ = 0;
};

// Whether the observed attention says which cells a question needs. It does not if only the last
// queries count and the prompt ends with an image: the question is still to come.
bool knows_question(const method & m, std::span<const token_kind> kind);

struct ratio_choice {
    double ratio;
    std::optional<double> held; // at that ratio
};

// Finds the ratio. Candidates are the floor, the multiples of 1/1000 above it, and the ceiling, so
// that a user can repeat a result with a fixed ratio of three decimals. held_at(ratio, least) is
// the share of attention held at one of them. It may be nullopt as soon as it is sure to be less
// than `least`; also where it is not known, which is never enough.
//
// Bisection: about ten calls of held_at. It assumes that a larger ratio holds more. That is nearly
// so: a larger recent window moves cells out of the pooled scores, and quotas are rounded down, so
// the share may dip by a cell. The result holds the share in any case, or is the ceiling.
ratio_choice choose_ratio(const auto_ratio & wanted,
                          const std::function<std::optional<double>(double, double)> & held_at);

// What one layer observed.
struct layer_attention {
    attention_sums sums; // [n_head_kv, n_kv]
    int64_t n_head_kv;
};

// The ratio for a prompt of these cells, which rank() and select() choose by these sums of
// all layers; n_prompt as in make_budget(). Without a question (knows_question) it is the ceiling.
ratio_choice choose_ratio(const method & m, const auto_ratio & wanted, const prompt_cells & cells,
                          int32_t n_prompt, std::span<const layer_attention> layers);

} // namespace lookm
