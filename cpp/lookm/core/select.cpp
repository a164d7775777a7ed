#include "lookm/core/select.h"

#include <algorithm>
#include <cmath>
#include <iterator>
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
    queue(const method & m, const budget & b, const float * score, const float * lead, std::span<const token_kind> kind)
        : m_(m), kind_(kind), score_(score), leads_(lead ? b.n_kv : 0, false), order_(b.n_kv - b.n_recent) {
        std::iota(order_.begin(), order_.end(), 0);
        if (lead && m.spread > 0.0) {
            lead_images(b, lead);
        } else if (lead) {
            let_lead(order_, std::min(b.n_keep() / n_keep_per_robust, b.n_important), lead);
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
    void let_lead(std::vector<int32_t> & cells, int32_t n, const float * lead) {
        std::nth_element(cells.begin(), cells.begin() + n, cells.end(), [&](int32_t x, int32_t y) {
            return key_of(lead[x]) != key_of(lead[y]) ? key_of(lead[x]) > key_of(lead[y]) : x < y;
        });
        std::for_each_n(cells.begin(), n, [&](int32_t c) { leads_[c] = true; });
    }

    void lead_images(const budget & b, const float * lead) {
        std::vector<int32_t> images;
        std::copy_if(order_.begin(), order_.end(), std::back_inserter(images),
                     [&](int32_t c) { return kind_[c] == token_kind::image; });
        const auto n_images = static_cast<int32_t>(images.size());
        const int32_t n_text = m_.prior == prior::text ? static_cast<int32_t>(order_.size()) - n_images : 0;
        const int32_t room = std::min(std::max(b.n_visual, b.n_important - n_text), n_images);
        let_lead(images, static_cast<int32_t>(std::floor(m_.spread * room)), lead);
    }

    int tier(int32_t c) const {
        if (c < m_.n_sink) {
            return 3;
        }
        if (!leads_.empty() && leads_[c]) {
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
    std::vector<bool> leads_;
    std::vector<int32_t> order_;
};

void select_head(const method & m, const budget & b, const float * score, const float * lead,
                 std::span<const token_kind> kind, int32_t * kept) {
    queue q(m, b, score, lead, kind);
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
    if (!ranks.lead.empty() && ranks.lead.size() != score.size()) {
        throw std::invalid_argument("select: " + std::to_string(ranks.lead.size()) + " leads for " +
                                    std::to_string(score.size()) + " scores");
    }
    const size_t n_head_kv = score.size() / n_kv;
    if (kept.size() != n_head_kv * b.n_keep()) {
        throw std::invalid_argument("select: room for " + std::to_string(kept.size()) + " kept cells, expected " +
                                    std::to_string(n_head_kv * b.n_keep()));
    }
    for (size_t h = 0; h < n_head_kv; ++h) {
        const float * lead = ranks.lead.empty() ? nullptr : ranks.lead.data() + h * n_kv;
        select_head(m, b, score.data() + h * n_kv, lead, kind, kept.data() + h * b.n_keep());
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
