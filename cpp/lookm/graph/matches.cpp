#include "lookm/graph/matches.h"

#include <algorithm>
#include <array>
#include <numeric>

namespace lookm {

namespace {

// The j with mean_h w[h,j] >= mean_hj w[h,j], ascending. Compares sums over heads instead of means,
// as both means divide by the number of heads.
std::vector<size_t> similar_ranks(const std::vector<float> & weight, int64_t n_head_kv) {
    const size_t n_evict = weight.size() / static_cast<size_t>(n_head_kv);
    std::vector<double> sum(n_evict, 0.0);
    for (size_t i = 0; i < weight.size(); ++i) {
        sum[i % n_evict] += weight[i];
    }
    const double mean = std::accumulate(sum.begin(), sum.end(), 0.0) / static_cast<double>(n_evict);
    std::vector<size_t> ranks;
    for (size_t j = 0; j < n_evict; ++j) {
        if (sum[j] >= mean) {
            ranks.push_back(j);
        }
    }
    return ranks;
}

} // namespace

void filter_matches(matches & m, filter which, int64_t n_head_kv) {
    if (which == filter::all || m.pivot.empty()) {
        return;
    }
    const std::vector<size_t> ranks = similar_ranks(m.weight, n_head_kv);
    const size_t n_evict = m.pivot.size() / static_cast<size_t>(n_head_kv);
    std::vector<int32_t> pivot(m.pivot.size(), -1);
    for (size_t h0 = 0; h0 < pivot.size(); h0 += n_evict) {
        for (size_t i = 0; i < ranks.size(); ++i) {
            pivot[h0 + (which == filter::misaligned ? i : ranks[i])] = m.pivot[h0 + ranks[i]];
        }
    }
    m.pivot = std::move(pivot);
}

void drop_unmatched(matches & m, const match_task & task, int64_t n_head_kv) {
    const size_t n_keep = task.kept.size() / static_cast<size_t>(n_head_kv);
    const size_t n_evict = task.evicted.size() / static_cast<size_t>(n_head_kv);
    for (int64_t h = 0; h < n_head_kv; ++h) {
        std::array<bool, 2> kept = {false, false};
        for (const int32_t cell : task.kept.subspan(h * n_keep, n_keep)) {
            kept[static_cast<size_t>(task.kind[cell])] = true;
        }
        for (size_t i = h * n_evict; i < (h + 1) * n_evict; ++i) {
            if (!kept[static_cast<size_t>(task.kind[task.evicted[i]])]) {
                m.pivot[i] = -1;
                if (!m.weight.empty()) {
                    m.weight[i] = 0.0f;
                }
            }
        }
    }
}

} // namespace lookm
