#include "lookm/core/pruning.h"

#include "lookm/core/bad_argument.h"

#include <algorithm>
#include <cmath>
#include <string>

namespace lookm {

std::span<const pruner_row> pruners() {
    static constexpr pruner_row rows[] = {{"none", pruner::none, false},
                                          {"divprune", pruner::divprune, false},
                                          {"cdpruner", pruner::cdpruner, true},
                                          {"grid", pruner::grid, false},
                                          {"random", pruner::random, false}};
    return rows;
}

pruning pruning_of(const compression & c) {
    pruning p = {.image_ratio = c.image_ratio, .image_cells = c.image_cells, .seed = c.seed};
    const auto rows = pruners();
    const auto row =
        std::find_if(rows.begin(), rows.end(), [&](const auto & r) { return r.name == c.pruner; });
    if (row == rows.end()) {
        std::string known;
        for (const pruner_row & r : rows) {
            known += (known.empty() ? "" : ", ") + std::string(r.name);
        }
        throw bad_argument("pruner", "\"" + c.pruner + "\" is unknown; expected one of " + known);
    }
    p.by = *row;
    if (!(p.image_ratio > 0.0 && p.image_ratio <= 1.0)) {
        throw bad_argument("image_ratio", number(p.image_ratio) + " is outside (0, 1]");
    }
    if (p.image_cells && *p.image_cells < 1) {
        throw bad_argument("image_cells",
                           std::to_string(*p.image_cells) + " is too small; expected 1 or more");
    }
    if (p.image_cells && p.image_ratio < 1.0) {
        throw bad_argument("image_cells", std::to_string(*p.image_cells) +
                                              " does not go with image_ratio " +
                                              number(p.image_ratio) + "; expected one of them");
    }
    return p;
}

int32_t n_read(const pruning & p, int32_t n, int32_t n_image, int32_t step) {
    if (!p.on()) {
        return n;
    }
    const double share =
        p.image_cells ? std::min(1.0, double(*p.image_cells) / n_image) : p.image_ratio;
    const auto steps = static_cast<int32_t>(std::lround(share * n / step));
    return std::clamp(steps * step, std::min(step, n), n);
}

} // namespace lookm
