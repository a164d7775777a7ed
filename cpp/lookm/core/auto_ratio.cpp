#include "lookm/core/auto_ratio.h"

#include "lookm/core/select.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace lookm {

namespace {

constexpr double steps = 1000.0;  // in a ratio of 1
constexpr double rounding = 1e-9; // 0.29 * 1000 is not quite 290

} // namespace

void held_attention::add(std::span<const float> sum, std::span<const int32_t> kept,
                         int64_t n_head_kv) {
    const size_t n_kv = sum.size() / n_head_kv, n_keep = kept.size() / n_head_kv;
    for (int64_t h = 0; h < n_head_kv; ++h) {
        const std::span<const float> row = sum.subspan(h * n_kv, n_kv);
        double all = 0.0, held = 0.0;
        for (const float s : row) {
            all += s;
        }
        for (const int32_t c : kept.subspan(h * n_keep, n_keep)) {
            held += row[c];
        }
        shares_ += all == 0.0 ? 1.0 : held / all;
    }
    n_heads_ += n_head_kv;
}

std::optional<double> held_attention::mean() const {
    const double mean = shares_ / static_cast<double>(n_heads_);
    return std::isfinite(mean) ? std::optional(mean) : std::nullopt;
}

budget auto_ratio::budget_at(const method & m, double ratio, std::span<const token_kind> kind,
                             int32_t n_prompt) const {
    const auto n_kv = static_cast<int32_t>(kind.size());
    return ratio < 1.0 ? make_budget(m, at(ratio), kind, n_prompt) : budget{n_kv, n_kv, 0};
}

bool knows_question(const method & m, std::span<const token_kind> kind) {
    return m.scorer != scorer::window || !ends_with_image(kind);
}

ratio_choice choose_ratio(const auto_ratio & wanted,
                          const std::function<std::optional<double>(double, double)> & held_at) {
    const auto first = static_cast<int32_t>(std::floor(wanted.floor * steps + rounding));
    const auto last = static_cast<int32_t>(std::ceil(wanted.ceiling * steps - rounding));
    ratio_choice best = {wanted.ceiling, std::nullopt};
    const auto suffices = [&](int32_t step) {
        const double ratio = step == first ? wanted.floor : std::min(step / steps, wanted.ceiling);
        const std::optional<double> held = held_at(ratio, wanted.quality);
        if (!held || *held < wanted.quality) {
            return false;
        }
        best = {ratio, held};
        return true;
    };
    if (suffices(first)) {
        return best;
    }
    for (int32_t too_few = first, enough = last; enough - too_few > 1;) {
        const int32_t middle = too_few + (enough - too_few) / 2;
        (suffices(middle) ? enough : too_few) = middle;
    }
    if (!best.held) {
        best.held = held_at(wanted.ceiling, 0.0);
    }
    return best;
}

ratio_choice choose_ratio(const method & m, const auto_ratio & wanted, const prompt_cells & cells,
                          int32_t n_prompt, std::span<const layer_attention> layers) {
    const std::span<const token_kind> kind = cells.kind;
    if (!knows_question(m, kind)) {
        return {wanted.ceiling, std::nullopt};
    }
    int64_t n_heads = 0;
    for (const layer_attention & layer : layers) {
        n_heads += layer.n_head_kv;
    }
    std::vector<int32_t> kept;
    return choose_ratio(wanted, [&](double ratio, double least) -> std::optional<double> {
        const budget b = wanted.budget_at(m, ratio, kind, n_prompt);
        held_attention held;
        for (size_t i = 0; i < layers.size(); ++i) {
            const layer_attention & layer = layers[i];
            const ranking ranks = rank(m, b, layer.sums, cells, first_query(m, b, kind),
                                       layer.n_head_kv, static_cast<int32_t>(i));
            kept.resize(layer.n_head_kv * b.n_keep());
            select(m, b, ranks, kind, kept);
            held.add(layer.sums.sum, kept, layer.n_head_kv);
            if (held.at_most(n_heads) < least - rounding) {
                return std::nullopt;
            }
        }
        return held.mean();
    });
}

} // namespace lookm
