#include "lookm/graph/prune_rows.h"

#include "lookm/core/hashes.h"
#include "lookm/graph/cpu_products.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

namespace lookm {

namespace {

constexpr int32_t n_at_once = 4096;
constexpr float no_relevance = 1e-6f;
constexpr float least_gain = 1e-12f;
constexpr float never = -std::numeric_limits<float>::infinity();

// The row scaled to length 1; zeros for one without a direction
void unit_row(const float * row, int64_t d, float * out) {
    double square = 0.0;
    for (int64_t e = 0; e < d; ++e) {
        square += double(row[e]) * row[e];
    }
    const bool has_direction = square > 0.0 && std::isfinite(square);
    const auto scale = static_cast<float>(has_direction ? 1.0 / std::sqrt(square) : 0.0);
    for (int64_t e = 0; e < d; ++e) {
        out[e] = has_direction ? row[e] * scale : 0.0f;
    }
}

// a . b of every row of a [n_a, d] and of b [n_b, d]: [n_a, n_b]
std::vector<float> products(std::span<const float> a, std::span<const float> b, int64_t d) {
    const auto n_a = static_cast<int64_t>(a.size()) / d, n_b = static_cast<int64_t>(b.size()) / d;
    std::vector<float> out(static_cast<size_t>(n_a * n_b));
    const int64_t n_panels = (n_b + n_panel - 1) / n_panel;
    std::vector<float> panels(static_cast<size_t>(n_panels * n_panel * d));
    for (int64_t p = 0; p < n_panels; ++p) {
        lookm_products().pack_panel(b.data() + p * n_panel * d,
                                    std::min(n_panel, n_b - p * n_panel), d,
                                    panels.data() + p * n_panel * d);
    }
    std::vector<float> block(static_cast<size_t>(n_block * d)), tile(n_tile);
    for (int64_t i = 0; i < n_a; i += n_block) {
        const int64_t n_rows = std::min(n_block, n_a - i);
        lookm_products().pack_block(a.data() + i * d, n_rows, d, block.data());
        for (int64_t p = 0; p < n_panels; ++p) {
            lookm_products().multiply(block.data(), n_rows, panels.data() + p * n_panel * d, d,
                                      tile.data());
            const int64_t n_columns = std::min(n_panel, n_b - p * n_panel);
            for (int64_t r = 0; r < n_rows; ++r) {
                std::copy_n(tile.data() + r * n_panel, n_columns,
                            out.data() + (i + r) * n_b + p * n_panel);
            }
        }
    }
    return out;
}

int32_t best_of(std::span<const float> score) {
    return static_cast<int32_t>(std::max_element(score.begin(), score.end()) - score.begin());
}

std::vector<int32_t> diverse(const std::vector<float> & similar, int32_t n, int32_t n_keep) {
    std::vector<float> distance(static_cast<size_t>(n)); // to the nearest other, or chosen, cell
    for (int32_t i = 0; i < n; ++i) {
        float nearest = never;
        for (int32_t j = 0; j < n; ++j) {
            nearest = j == i ? nearest : std::max(nearest, similar[i * size_t(n) + j]);
        }
        distance[i] = 1.0f - nearest;
    }
    std::vector<int32_t> chosen;
    while (std::ssize(chosen) < n_keep) {
        const int32_t next = best_of(distance);
        const float * const row = similar.data() + next * size_t(n);
        for (int32_t j = 0; j < n; ++j) {
            const float d = 1.0f - row[j];
            distance[j] = chosen.empty() ? d : std::min(distance[j], d);
        }
        chosen.push_back(next);
        distance[next] = never;
    }
    return chosen;
}

// r of the cells: their mean cosine with the question's tokens, scaled
std::vector<float> relevance(std::span<const float> units, std::span<const float> question,
                             int64_t d) {
    const size_t n = units.size() / d;
    std::vector<float> r(n, 1.0f);
    if (question.empty()) {
        return r;
    }
    std::vector<float> token(static_cast<size_t>(d)), mean(static_cast<size_t>(d), 0.0f);
    for (int64_t t = 0; t < std::ssize(question); t += d) {
        unit_row(question.data() + t, d, token.data());
        std::transform(mean.begin(), mean.end(), token.begin(), mean.begin(), std::plus<>());
    }
    r = products(units, mean, d);
    const auto [low, high] = std::minmax_element(r.begin(), r.end());
    const float least = *low, range = *high - *low;
    for (float & x : r) {
        x = range > 0.0f ? (x - least + no_relevance * range) / range : 1.0f;
    }
    return r;
}

std::vector<int32_t> most_determinant(const std::vector<float> & similar, std::span<const float> r,
                                      int32_t n, int32_t n_keep) {
    std::vector<float> gain(static_cast<size_t>(n)); // of the determinant, by each cell
    for (int32_t i = 0; i < n; ++i) {
        gain[i] = r[i] * similar[i * size_t(n) + i] * r[i];
    }
    std::vector<int32_t> chosen;
    std::vector<std::vector<float>> factors; // rows of the Cholesky factor
    std::vector<float> row(static_cast<size_t>(n));
    while (std::ssize(chosen) < n_keep) {
        const int32_t next = best_of(gain);
        if (gain[next] < least_gain) { // a rounding error, as all directions are taken
            break;
        }
        chosen.push_back(next);
        const float * const similar_to = similar.data() + next * size_t(n);
        for (int32_t j = 0; j < n; ++j) {
            row[j] = r[next] * similar_to[j] * r[j];
        }
        for (const std::vector<float> & f : factors) {
            const float here = f[next];
            for (int32_t j = 0; j < n; ++j) {
                row[j] -= here * f[j];
            }
        }
        const float scale = 1.0f / std::sqrt(gain[next]);
        for (int32_t j = 0; j < n; ++j) {
            row[j] *= scale;
            gain[j] -= row[j] * row[j];
        }
        factors.push_back(row);
        gain[next] = never;
    }
    std::vector<float> left(r.begin(), r.end());
    for (const int32_t c : chosen) {
        left[c] = never;
    }
    while (std::ssize(chosen) < n_keep) {
        chosen.push_back(best_of(left));
        left[chosen.back()] = never;
    }
    return chosen;
}

double fraction(double x) {
    return x - std::floor(x);
}

std::vector<int32_t> lowest(const std::vector<double> & rank, int32_t n_keep) {
    std::vector<int32_t> order(rank.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int32_t a, int32_t b) { return rank[a] < rank[b]; });
    order.resize(n_keep);
    return order;
}

// Chooses n_keep of these cells of the task.
std::vector<int32_t> choose(const prune_task & task, std::span<const int32_t> cells,
                            int32_t n_keep) {
    const auto n = static_cast<int32_t>(cells.size());
    if (task.pruner == pruner::grid || task.pruner == pruner::random) {
        std::vector<double> rank;
        for (const int32_t c : cells) {
            const auto [x, y] = task.place[c];
            rank.push_back(task.pruner == pruner::grid
                               ? fraction(0.7548776662466927 * x + 0.5698402909980532 * y)
                               : static_cast<double>(mixed(mixed(task.seed) + c) >> 11));
        }
        return lowest(rank, n_keep);
    }
    std::vector<float> units(static_cast<size_t>(n * task.d));
    for (int32_t i = 0; i < n; ++i) {
        unit_row(task.rows + cells[i] * task.stride, task.d, units.data() + i * task.d);
    }
    const std::vector<float> similar = products(units, units, task.d);
    return task.pruner == pruner::divprune
               ? diverse(similar, n, n_keep)
               : most_determinant(similar, relevance(units, task.question, task.d), n, n_keep);
}

} // namespace

std::vector<int32_t> prune_rows(const prune_task & task) {
    std::vector<int32_t> kept, cells;
    for (int32_t i = 0; i < task.n; ++i) {
        (task.place[i][0] < 0 ? kept : cells).push_back(i);
    }
    const auto n_left = std::clamp<int64_t>(task.n_keep - std::ssize(kept), 0, std::ssize(cells));
    const auto n = std::ssize(cells);
    for (int64_t first = 0; first < n; first += n_at_once) {
        const int64_t end = std::min<int64_t>(first + n_at_once, n);
        const int64_t n_keep = n_left * end / n - n_left * first / n;
        const auto run = std::span(cells).subspan(first, end - first);
        for (const int32_t i : choose(task, run, static_cast<int32_t>(n_keep))) {
            kept.push_back(run[i]);
        }
    }
    std::sort(kept.begin(), kept.end());
    return kept;
}

} // namespace lookm
