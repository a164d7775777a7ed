#include "lookm/graph/compress_forms.h"

#include <cassert>
#include <vector>

namespace lookm {

namespace {

// One head of one side: sum what is merged into each kept row, then pack the rows.
void merge_head(const kv_rows & rows, int64_t h, merge how, const layer_plan & plan, const matches & m,
                std::vector<float> & acc, std::vector<int32_t> & count) {
    const int64_t d = rows.head_dim;
    const size_t n_keep = plan.target.size();
    const size_t n_evict = plan.evicted.size() / rows.n_head_kv;
    const int32_t * kept = plan.kept.data() + h * n_keep;
    const int32_t * gone = plan.evicted.data() + h * n_evict;
    const merge_weights w = weights_of(how);
    std::vector<float> row(d);

    acc.assign(n_keep * d, 0.0f);
    count.assign(n_keep, 0);
    for (size_t e = 0; how != merge::none && e < n_evict; ++e) {
        const int32_t c = m.pivot[h * n_evict + e];
        const float scale = w.by_cosine ? w.b * m.weight[h * n_evict + e] : w.b;
        read_row(rows, h, gone[e], row.data());
        float * sum = acc.data() + c * d;
        for (int64_t i = 0; i < d; ++i) {
            sum[i] += scale * row[i];
        }
        ++count[c];
    }
    for (size_t c = 0; c < n_keep; ++c) {
        if (count[c] == 0) {
            continue; // moved below without going through f32 and back
        }
        const auto n = static_cast<float>(count[c]);
        read_row(rows, h, kept[c], row.data());
        float * sum = acc.data() + c * d;
        for (int64_t i = 0; i < d; ++i) {
            sum[i] = ((1.0f + w.per_count * n) * row[i] + sum[i]) / (1.0f + n);
        }
    }
    // Every row is read before any is written: a target may be a cell that another row still comes from.
    for (size_t c = 0; c < n_keep; ++c) {
        if (count[c] == 0) {
            read_row(rows, h, kept[c], acc.data() + c * d);
        }
    }
    for (size_t c = 0; c < n_keep; ++c) {
        if (count[c] != 0 || kept[c] != plan.target[c]) {
            write_row(rows, h, plan.target[c], acc.data() + c * d);
        }
    }
}

} // namespace

matches compress_on_host(graph_runner & runner, const kv_layer & layer, merge how, const layer_plan & plan) {
    assert(ggml_backend_buffer_is_host(layer.k.storage->buffer) &&
           ggml_backend_buffer_is_host(layer.v.storage->buffer));
    matches m;
    if (how != merge::none) {
        m = match_layer(runner, layer.k, plan.kept, plan.evicted, how == merge::weighted);
    }
    std::vector<float> acc;
    std::vector<int32_t> count;
    for (int64_t h = 0; h < layer.k.n_head_kv; ++h) {
        merge_head(layer.k, h, how, plan, m, acc, count);
        merge_head(layer.v, h, how, plan, m, acc, count);
    }
    return m;
}

} // namespace lookm
