#include "lookm/core/rank.h"

#include "lookm/core/hashes.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <stdexcept>
#include <string>

namespace lookm {

namespace {

void check_size(const char * name, size_t n, size_t expected) {
    if (n != expected) {
        throw std::invalid_argument("rank: " + std::to_string(n) + " " + name + ", expected " +
                                    std::to_string(expected));
    }
}

// chained: each cell's draw is independent of the order of work
uint64_t mixed(uint64_t x, uint64_t y) {
    return lookm::mixed(x * 0x9E3779B97F4A7C15u + y + 1);
}

float draw(uint32_t seed, int32_t layer, int64_t head, int32_t cell) {
    const uint64_t bits = mixed(
        mixed(mixed(mixed(0, seed), static_cast<uint64_t>(layer)), static_cast<uint64_t>(head)),
        static_cast<uint64_t>(cell));
    return static_cast<float>(bits >> 40) * 0x1p-24f;
}

ranking without_scores(const method & m, const budget & b, int64_t n_head_kv, int32_t layer) {
    ranking out;
    for (int64_t h = 0; h < n_head_kv; ++h) {
        for (int32_t c = 0; c < b.n_kv; ++c) {
            out.score.push_back(m.random ? draw(m.seed, layer, h, c) : static_cast<float>(c));
        }
    }
    return out;
}

ranking means(const budget & b, const attention_sums & sums, int32_t first_query) {
    ranking out;
    for (size_t i = 0; i < sums.sum.size(); ++i) {
        const auto n =
            static_cast<double>(b.n_kv - std::max(static_cast<int32_t>(i % b.n_kv), first_query));
        const double mean = sums.sum[i] / n;
        const double square = mean * mean;
        out.score.push_back(static_cast<float>(mean));
        const double variance = sums.sum_of_squares[i] / n - square;
        out.lead.push_back(static_cast<float>(std::sqrt(variance < 0.0 ? 0.0 : variance)));
    }
    return out;
}

// The result is in [0, 1): if rounding to float gives 1, it is the largest float below 1.
float even_spread(int64_t layer_and_head, int32_t cell) {
    const double x =
        0.6180339887498949 * cell + 0.7548776662466927 * static_cast<double>(layer_and_head);
    // x >= 0; without SSE 4.1, std::floor would be a function call
    const auto whole = static_cast<double>(static_cast<int64_t>(x));
    return std::min(static_cast<float>(x - whole), 0x1.fffffep-1f);
}

// The sum of in [n] over cell c, the cells before it and those after it.
double sum_around(const std::vector<float> & in, int32_t c, int32_t before, int32_t after) {
    const auto n = static_cast<int32_t>(in.size());
    double total = 0.0;
    for (int32_t i = std::max(0, c - before); i <= std::min(n - 1, c + after); ++i) {
        total += in[i];
    }
    return total;
}

// Replaces each of score [n] by its mean over n_pool neighbours; for text, the sum over the n_trail
// cells before it counts if it is larger than the sum over the neighbours.
void pool(const method & m, float * score, int32_t n, std::span<const token_kind> source) {
    const std::vector<float> in(score, score + n);
    for (int32_t c = 0; c < n; ++c) {
        double sum = sum_around(in, c, m.n_pool / 2, m.n_pool / 2);
        if (m.n_trail > 0 && source[c] == token_kind::text) {
            sum = std::max(sum, sum_around(in, c, m.n_trail, 0));
        }
        score[c] = static_cast<float>(sum / m.n_pool);
    }
}

// The share of image cells of the attention in sum [n_kv] of one head
double image_share(const budget & b, const float * sum, std::span<const token_kind> kind) {
    double image = 0.0, all = 0.0;
    for (int32_t c = 1; c < b.n_kv - b.n_recent; ++c) {
        all += sum[c];
        image += kind[c] == token_kind::image ? sum[c] : 0.0;
    }
    return all > 0.0 && std::isfinite(all) && !ends_with_image(kind) ? image / all : 0.5;
}

} // namespace

int32_t first_query(const method & m, const budget & b, std::span<const token_kind> kind) {
    if (m.scorer != scorer::window) {
        return 0;
    }
    return std::max(0, b.n_kv - window_of(m, kind));
}

ranking rank(const method & m, const budget & b, const attention_sums & sums,
             const prompt_cells & cells, int32_t first_query, int64_t n_head_kv, int32_t layer) {
    const auto n = static_cast<size_t>(n_head_kv * b.n_kv);
    if (needs_sums(m)) {
        check_size("sums", sums.sum.size(), n);
    }
    check_size("kinds", cells.kind.size(), b.n_kv);
    check_size("sources", cells.source.size(), b.n_kv);
    ranking out;
    if (!needs_sums(m)) {
        out = without_scores(m, b, n_head_kv, layer);
    } else if (m.deviation) {
        check_size("sums of squares", sums.sum_of_squares.size(), n);
        out = means(b, sums, first_query);
    } else {
        out.score.assign(sums.sum.begin(), sums.sum.end());
    }
    for (int64_t h = 0; m.prior == prior::attention && h < n_head_kv; ++h) {
        const bool blind = !needs_sums(m);
        out.image_share.push_back(blind ? 0.5
                                        : image_share(b, sums.sum.data() + h * b.n_kv, cells.kind));
    }
    const bool all_lead = ends_with_image(cells.kind);
    out.lead.reserve(m.spread > 0.0 ? n : out.lead.size());
    for (int64_t h = 0; m.spread > 0.0 && h < n_head_kv; ++h) {
        for (int32_t c = 0; c < b.n_kv; ++c) {
            const bool has_lead = all_lead || cells.source[c] == token_kind::image;
            out.lead.push_back(has_lead ? even_spread(layer * n_head_kv + h, c) : no_lead);
        }
    }
    for (int64_t h = 0; needs_sums(m) && m.n_pool > 1 && h < n_head_kv; ++h) {
        pool(m, out.score.data() + h * b.n_kv, b.n_kv - b.n_recent, cells.source);
    }
    return out;
}

} // namespace lookm
