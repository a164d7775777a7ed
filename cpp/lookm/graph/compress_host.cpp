#include "lookm/graph/compress_forms.h"
#include "lookm/graph/cpu_stages.h"
#include "lookm/graph/cpu_tiles.h"

#include <algorithm>
#include <cassert>
#include <vector>

namespace lookm {

namespace {

// One head of one side: sum what is merged into each kept row, then pack the rows. scratch [n_keep + 1, head_dim]
void merge_head(const kv_rows & rows, int64_t h, merge how, const layer_plan & plan, const matches & m,
                float * scratch) {
    const int64_t d = rows.head_dim;
    const size_t n_keep = plan.target.size();
    const size_t n_evict = plan.evicted.size() / rows.n_head_kv;
    const int32_t * kept = plan.kept.data() + h * n_keep;
    const int32_t * gone = plan.evicted.data() + h * n_evict;
    const merge_weights w = weights_of(how);
    float * row = scratch;
    float * acc = scratch + d;
    std::vector<int32_t> count(n_keep, 0);

    std::fill_n(acc, n_keep * d, 0.0f);
    for (size_t e = 0; how != merge::none && e < n_evict; ++e) {
        const int32_t c = m.pivot[h * n_evict + e];
        read_row(rows, h, gone[e], row);
        add_row(row, d, w.by_cosine ? w.b * m.weight[h * n_evict + e] : w.b, acc + c * d);
        ++count[c];
    }
    // Every row is read before any is written: a target may be a cell that another row still comes from.
    for (size_t c = 0; c < n_keep; ++c) {
        const auto n = static_cast<float>(count[c]);
        read_row(rows, h, kept[c], row);
        float * sum = acc + c * d;
        for (int64_t i = 0; i < d; ++i) {
            sum[i] = count[c] == 0 ? row[i] : ((1.0f + w.per_count * n) * row[i] + sum[i]) / (1.0f + n);
        }
    }
    for (size_t c = 0; c < n_keep; ++c) {
        if (count[c] != 0 || kept[c] != plan.target[c]) {
            write_row(rows, h, plan.target[c], acc + c * d);
        }
    }
}

} // namespace

matches compress_on_host(graph_runner & runner, const kv_layer & layer, merge how, const layer_plan & plan) {
    assert(ggml_backend_buffer_is_host(layer.k.storage->buffer) &&
           ggml_backend_buffer_is_host(layer.v.storage->buffer));
    matches m;
    if (how != merge::none) {
        m = match_on_host(runner, layer.k, plan.kept, plan.evicted, how == merge::weighted);
    }
    const auto width = static_cast<size_t>(std::max(layer.k.head_dim, layer.v.head_dim));
    const cpu_stage merging = {2 * layer.k.n_head_kv, (plan.target.size() + 1) * width,
                               [&](int64_t task, float * scratch) {
                                   merge_head(task % 2 ? layer.v : layer.k, task / 2, how, plan, m, scratch);
                               }};
    run_stages(runner, {merging}, 0);
    return m;
}

} // namespace lookm
