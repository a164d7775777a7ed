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

constexpr int32_t n_keep_per_robust = 10; // of ten kept cells one is kept for its deviation

float key_of(float x) {
    return std::isnan(x) ? -std::numeric_limits<float>::infinity() : x;
}

// The queue of one head's cells before the recent window.
class queue {
  public:
    queue(const method & m, const budget & b, const float * score, const float * deviation,
          std::span<const token_kind> kind)
        : m_(m), kind_(kind), score_(score), robust_(deviation ? b.n_kv : 0, false), order_(b.n_kv - b.n_recent) {
        std::iota(order_.begin(), order_.end(), 0);
        if (deviation) {
            protect(b, deviation);
        }
    }

    // Moves the first n of order()[from...] that may be chosen to its front, in no order among themselves.
    template <class MayBe>
    void choose(int32_t from, int32_t n, MayBe may_be) {
        const auto begin = order_.begin() + from;
        const auto end = std::partition(begin, order_.end(), may_be);
        std::nth_element(begin, begin + n, end, [&](int32_t x, int32_t y) { return before(x, y); });
    }

    const std::vector<int32_t> & order() const { return order_; }

  private:
    void protect(const budget & b, const float * deviation) {
        const int32_t n = std::min(b.n_keep() / n_keep_per_robust, b.n_important);
        std::nth_element(order_.begin(), order_.begin() + n, order_.end(), [&](int32_t x, int32_t y) {
            return key_of(deviation[x]) != key_of(deviation[y]) ? key_of(deviation[x]) > key_of(deviation[y]) : x < y;
        });
        std::for_each_n(order_.begin(), n, [&](int32_t c) { robust_[c] = true; });
    }

    int tier(int32_t c) const {
        if (c < m_.n_sink) {
            return 3;
        }
        if (!robust_.empty() && robust_[c]) {
            return 2;
        }
        return m_.prior == prior::text && kind_[c] == token_kind::text ? 1 : 0;
    }

    bool before(int32_t x, int32_t y) const {
        if (tier(x) != tier(y)) {
            return tier(x) > tier(y);
        }
        return key_of(score_[x]) != key_of(score_[y]) ? key_of(score_[x]) > key_of(score_[y]) : x < y;
    }

    const method & m_;
    std::span<const token_kind> kind_;
    const float * score_;
    std::vector<bool> robust_;
    std::vector<int32_t> order_;
};

void select_head(const method & m, const budget & b, const float * score, const float * deviation,
                 std::span<const token_kind> kind, int32_t * kept) {
    queue q(m, b, score, deviation, kind);
    q.choose(0, b.n_visual, [&](int32_t c) { return kind[c] == token_kind::image; });
    q.choose(b.n_visual, b.n_important - b.n_visual, [](int32_t) { return true; });
    std::copy_n(q.order().begin(), b.n_important, kept);
    std::sort(kept, kept + b.n_important);
    std::iota(kept + b.n_important, kept + b.n_keep(), b.n_kv - b.n_recent);
}

} // namespace

void select(const method & m, const budget & b, const ranking & ranks, std::span<const token_kind> kind,
            std::span<int32_t> kept) {
    const size_t n_kv = static_cast<size_t>(b.n_kv);
    const std::vector<float> & score = ranks.score;
    if (kind.size() != n_kv || n_kv == 0 || score.size() % n_kv != 0) {
        throw std::invalid_argument("select: " + std::to_string(score.size()) + " scores and " +
                                    std::to_string(kind.size()) + " kinds for n_kv " + std::to_string(n_kv));
    }
    if (!ranks.deviation.empty() && ranks.deviation.size() != score.size()) {
        throw std::invalid_argument("select: " + std::to_string(ranks.deviation.size()) + " deviations for " +
                                    std::to_string(score.size()) + " scores");
    }
    const size_t n_head_kv = score.size() / n_kv;
    if (kept.size() != n_head_kv * b.n_keep()) {
        throw std::invalid_argument("select: room for " + std::to_string(kept.size()) + " kept cells, expected " +
                                    std::to_string(n_head_kv * b.n_keep()));
    }
    for (size_t h = 0; h < n_head_kv; ++h) {
        const float * deviation = ranks.deviation.empty() ? nullptr : ranks.deviation.data() + h * n_kv;
        select_head(m, b, score.data() + h * n_kv, deviation, kind, kept.data() + h * b.n_keep());
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
