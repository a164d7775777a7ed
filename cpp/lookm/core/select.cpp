#include "lookm/core/select.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

namespace lookm {

namespace {

void select_head(const method & m, const budget & b, const float * score, std::span<const token_kind> kind,
                 std::vector<int32_t> & order, int32_t * kept) {
    const int32_t n_cand = b.n_kv - b.n_recent;
    const auto tier = [&](int32_t c) {
        const bool text = m.prior == prior::text && kind[c] == token_kind::text;
        return c < m.n_sink ? 2 : (text ? 1 : 0);
    };
    const auto key = [&](int32_t c) {
        return std::isnan(score[c]) ? -std::numeric_limits<float>::infinity() : score[c];
    };
    const auto before = [&](int32_t x, int32_t y) {
        if (tier(x) != tier(y)) {
            return tier(x) > tier(y);
        }
        return key(x) != key(y) ? key(x) > key(y) : x < y;
    };
    order.resize(n_cand);
    std::iota(order.begin(), order.end(), 0);
    std::nth_element(order.begin(), order.begin() + b.n_important, order.end(), before);
    std::copy_n(order.begin(), b.n_important, kept);
    std::sort(kept, kept + b.n_important);
    std::iota(kept + b.n_important, kept + b.n_keep(), n_cand);
}

} // namespace

void select(const method & m, const budget & b, std::span<const float> score, std::span<const token_kind> kind,
            std::span<int32_t> kept) {
    const size_t n_kv = static_cast<size_t>(b.n_kv);
    if (kind.size() != n_kv || n_kv == 0 || score.size() % n_kv != 0) {
        throw std::invalid_argument("select: " + std::to_string(score.size()) + " scores and " +
                                    std::to_string(kind.size()) + " kinds for n_kv " + std::to_string(n_kv));
    }
    const size_t n_head_kv = score.size() / n_kv;
    if (kept.size() != n_head_kv * b.n_keep()) {
        throw std::invalid_argument("select: room for " + std::to_string(kept.size()) + " kept cells, expected " +
                                    std::to_string(n_head_kv * b.n_keep()));
    }
    std::vector<int32_t> order;
    for (size_t h = 0; h < n_head_kv; ++h) {
        select_head(m, b, score.data() + h * n_kv, kind, order, kept.data() + h * b.n_keep());
    }
}

void complement(std::span<const int32_t> kept, std::span<int32_t> evicted) {
    int32_t cell = 0;
    auto out = evicted.begin();
    for (const int32_t k : kept) {
        for (; cell < k; ++cell) {
            *out++ = cell;
        }
        ++cell;
    }
    for (; out != evicted.end(); ++cell) {
        *out++ = cell;
    }
}

} // namespace lookm
