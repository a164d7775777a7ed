#include "lookm/cache/query_count.h"

#include <algorithm>

namespace lookm {

void query_count::begin(std::span<const kv_layer> layers) {
    n_seen_.clear();
    for (const kv_layer & layer : layers) {
        n_seen_.emplace_back(layer.k.storage->ne[2], 0);
    }
    n_read_.assign(n_seen_.size(), 0);
}

void query_count::add(const node_queries & here, size_t layer, int n_readers) {
    if (++n_read_[layer] < n_readers) {
        return;
    }
    n_read_[layer] = 0;
    const auto first = n_seen_[layer].begin() + here.stream;
    std::for_each(first, first + here.n_stream, [&](int64_t & n) { n += here.n; });
}

bool query_count::are_before(const node_queries & here, size_t layer, int64_t first) const {
    const auto begin = n_seen_[layer].begin() + here.stream;
    return *std::max_element(begin, begin + here.n_stream) + here.n <= first;
}

bool query_count::has_seen(size_t layer) const {
    const std::vector<int64_t> & streams = n_seen_.at(layer);
    return std::any_of(streams.begin(), streams.end(), [](int64_t n) { return n > 0; });
}

void query_count::set_seen(size_t layer) {
    for (int64_t & n : n_seen_[layer]) {
        n = std::max<int64_t>(n, 1);
    }
}

int64_t query_count::most_seen(int64_t stream) const {
    int64_t most = 0;
    for (const std::vector<int64_t> & streams : n_seen_) {
        most = std::max(most, streams[stream]);
    }
    return most;
}

} // namespace lookm
