#include "lookm/core/select.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <iterator>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

namespace lookm {

namespace {

// One in ten kept cells is kept because of its deviation
constexpr int32_t n_keep_per_robust = 10;

// A cell and its rank packed into one integer, so that comparing integers orders cells. The larger
// one comes first: the higher tier (0 to 3), then the higher score, then the earlier cell. NaN is
// the lowest score, and -0 equals 0.
using place = uint64_t;
constexpr int cell_bits = 30;
constexpr int32_t most_cells = int32_t{1} << cell_bits;

place place_of(int32_t cell, float score, int tier = 0) {
    const float x = std::isnan(score) ? -std::numeric_limits<float>::infinity() : score + 0.0f;
    const auto bits = std::bit_cast<uint32_t>(x);
    const uint32_t ascending = bits >> 31 ? ~bits : bits | uint32_t{1} << 31;
    return static_cast<place>(tier) << 62 | static_cast<place>(ascending) << cell_bits |
           (most_cells - 1 - cell);
}

int32_t cell_of(place p) {
    return most_cells - 1 - static_cast<int32_t>(p & (most_cells - 1));
}

// Moves the n largest of [begin, end) to the front, in any order.
void choose(std::vector<place>::iterator begin, int32_t n, std::vector<place>::iterator end) {
    std::nth_element(begin, begin + n, end, std::greater<>());
}

// Whether text comes before images.
bool text_first(const method & m, std::span<const token_kind> kind) {
    return m.prior == prior::text || (m.prior == prior::attention && ends_with_image(kind));
}

// Image cells that stay at least, of the n_images before the recent window.
int32_t n_visual_of(const method & m, const budget & b, const double * image_share,
                    int32_t n_images) {
    if (!image_share) {
        return b.n_visual;
    }
    const double quota = m.visual_quota;
    const double share =
        std::min(std::max(*image_share, quota), std::max(quota, 1.0 - m.text_quota));
    return std::min(static_cast<int32_t>(std::floor(share * b.n_important)), n_images);
}

// Text cells that stay at least, of the n_texts before the recent window, once the images have
// theirs.
int32_t n_text_of(const method & m, const budget & b, int32_t n_visual, int32_t n_texts) {
    if (m.prior != prior::attention) {
        return 0;
    }
    const auto floor = static_cast<int32_t>(std::floor(m.text_quota * b.n_important));
    return std::min({floor, b.n_important - n_visual, n_texts});
}

// What the cells of one head are chosen by.
struct head_ranks {
    const float * score;
    const float * lead;         // null if the method has no leads
    const double * image_share; // null without prior::attention
};

// Flags [n] of the cells before the recent window that come before all scores, though after the
// sinks; empty if the method has no leads.
std::vector<char> leading(const method & m, const budget & b, const float * lead, int32_t n_visual,
                          std::span<const token_kind> kind) {
    if (!lead) {
        return {};
    }
    const int32_t n = b.n_kv - b.n_recent;
    std::vector<place> places;
    int32_t n_images = 0;
    for (int32_t c = 0; c < n; ++c) {
        const bool is_image = kind[c] == token_kind::image;
        n_images += is_image;
        if (m.spread == 0.0 || (is_image && lead[c] != no_lead)) {
            places.push_back(place_of(c, lead[c]));
        }
    }
    int32_t n_lead = std::min(b.n_keep() / n_keep_per_robust, b.n_important);
    if (m.spread > 0.0) {
        const int32_t left = text_first(m, kind) ? b.n_important - (n - n_images) : 0;
        const int32_t room = std::min(std::max(n_visual, left), n_images);
        const double have_leads =
            n_images > 0 ? static_cast<double>(places.size()) / n_images : 0.0;
        const double spread = ends_with_image(kind) ? 1.0 : m.spread;
        n_lead = static_cast<int32_t>(std::floor(spread * have_leads * room));
    }
    choose(places.begin(), n_lead, places.end());
    std::vector<char> leads(n, false);
    std::for_each_n(places.begin(), n_lead, [&](place p) { leads[cell_of(p)] = true; });
    return leads;
}

void select_head(const method & m, const budget & b, const head_ranks & ranks,
                 std::span<const token_kind> kind, int32_t * kept) {
    const auto candidates = kind.first(b.n_kv - b.n_recent);
    const auto n_images =
        static_cast<int32_t>(std::count(candidates.begin(), candidates.end(), token_kind::image));
    const int32_t n_visual = n_visual_of(m, b, ranks.image_share, n_images);
    const int32_t n_text =
        n_text_of(m, b, n_visual, static_cast<int32_t>(candidates.size()) - n_images);
    const std::vector<char> leads = leading(m, b, ranks.lead, n_visual, kind);
    const bool prefers_text = text_first(m, kind);
    std::vector<place> places(candidates.size());
    for (int32_t c = 0; c < std::ssize(places); ++c) {
        const bool preferred = prefers_text && kind[c] == token_kind::text;
        const int tier = c < m.n_sink ? 3 : !leads.empty() && leads[c] ? 2 : preferred;
        places[c] = place_of(c, ranks.score[c], tier);
    }
    // moves the n first cells of one kind to the front of those from `from` on
    const auto take = [&](std::vector<place>::iterator from, int32_t n, token_kind of) {
        const auto is_of = [&](place p) { return kind[cell_of(p)] == of; };
        choose(from, n, n > 0 ? std::partition(from, places.end(), is_of) : from);
        return from + n;
    };
    const auto first = places.begin();
    const auto rest = take(take(first, n_visual, token_kind::image), n_text, token_kind::text);
    choose(rest, b.n_important - n_visual - n_text, places.end());
    std::transform(first, first + b.n_important, kept, cell_of);
    std::sort(kept, kept + b.n_important);
    std::iota(kept + b.n_important, kept + b.n_keep(), b.n_kv - b.n_recent);
}

} // namespace

void select(const method & m, const budget & b, const ranking & ranks,
            std::span<const token_kind> kind, std::span<int32_t> kept) {
    const size_t n_kv = static_cast<size_t>(b.n_kv);
    const std::vector<float> & score = ranks.score;
    if (kind.size() != n_kv || n_kv == 0 || score.size() % n_kv != 0) {
        throw std::invalid_argument("select: " + std::to_string(score.size()) + " scores and " +
                                    std::to_string(kind.size()) + " kinds for n_kv " +
                                    std::to_string(n_kv));
    }
    if (b.n_kv > most_cells) {
        throw std::invalid_argument("select: n_kv is " + std::to_string(b.n_kv) +
                                    ", expected at most " + std::to_string(most_cells));
    }
    if (!ranks.lead.empty() && ranks.lead.size() != score.size()) {
        throw std::invalid_argument("select: " + std::to_string(ranks.lead.size()) + " leads for " +
                                    std::to_string(score.size()) + " scores");
    }
    const size_t n_head_kv = score.size() / n_kv;
    if (kept.size() != n_head_kv * b.n_keep()) {
        throw std::invalid_argument("select: " + std::to_string(kept.size()) +
                                    " kept cells, expected " +
                                    std::to_string(n_head_kv * b.n_keep()));
    }
    const bool shared = m.prior == prior::attention;
    if (shared && ranks.image_share.size() != n_head_kv) {
        throw std::invalid_argument("select: " + std::to_string(ranks.image_share.size()) +
                                    " image shares for " + std::to_string(n_head_kv) + " heads");
    }
    for (size_t h = 0; h < n_head_kv; ++h) {
        const head_ranks of_head = {score.data() + h * n_kv,
                                    ranks.lead.empty() ? nullptr : ranks.lead.data() + h * n_kv,
                                    shared ? ranks.image_share.data() + h : nullptr};
        select_head(m, b, of_head, kind, kept.data() + h * b.n_keep());
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
