#include "lookm/graph/compress_forms.h"
#include "lookm/graph/cpu_stages.h"
#include "lookm/graph/cpu_tiles.h"
#include "lookm/graph/row_blocks.h"

#include <algorithm>
#include <cassert>
#include <vector>

namespace lookm {

namespace {

// One head of K or V: sums the rows that are merged into each kept row, then writes the kept rows
// to their targets. Without matches the rows are only moved. scratch: [n_keep, head_dim]
void merge_head(const kv_rows & rows, int64_t h, merge rule, const layer_plan & plan,
                const matches & matched, float * scratch) {
    const int64_t d = rows.head_dim;
    const size_t n_keep = plan.target.size();
    const size_t n_evict = plan.evicted.size() / rows.n_head_kv;
    const std::span<const int32_t> kept = plan.kept.subspan(h * n_keep, n_keep);
    row_reader kept_rows(rows, h, kept);
    row_reader gone_rows(rows, h, plan.evicted.subspan(h * n_evict, n_evict));
    const merge_weights w = weights_of(rule);
    float * acc = scratch;
    std::vector<int32_t> count(n_keep, 0);

    std::fill_n(acc, n_keep * d, 0.0f);
    for (size_t e = 0; !matched.pivot.empty() && e < n_evict; ++e) {
        const int32_t c = matched.pivot[h * n_evict + e];
        if (c < 0) {
            continue;
        }
        lookm_tiles().add_row(gone_rows.at(e), d,
                              w.by_cosine ? w.b * matched.weight[h * n_evict + e] : w.b,
                              acc + c * d);
        ++count[c];
    }
    // All rows are read before any is written, as a target may be the cell of another kept row.
    for (size_t c = 0; c < n_keep; ++c) {
        const auto n = static_cast<float>(count[c]);
        const float * row = kept_rows.at(c);
        if (count[c] == 0) {
            std::copy_n(row, d, acc + c * d);
        } else {
            lookm_tiles().mean_row(row, d, 1.0f + w.per_count * n, 1.0f + n, acc + c * d);
        }
    }
    if (rows.transposed) { // write_rows is faster here, as it writes runs of cells
        write_rows(rows, h, plan.target, acc);
    }
    for (size_t c = 0; !rows.transposed && c < n_keep; ++c) {
        // a quantized row that neither changes nor moves keeps its bytes
        if (count[c] != 0 || kept[c] != plan.target[c]) {
            write_row(rows, h, plan.target[c], acc + c * d);
        }
    }
}

} // namespace

void merge_on_host(graph_runner & runner, const kv_layer & layer, const method & m,
                   const layer_plan & plan, const matches & matched) {
    assert(ggml_backend_buffer_is_host(layer.k.storage->buffer) &&
           ggml_backend_buffer_is_host(layer.v.storage->buffer));
    const matches none;
    const matches & of_keys = m.merge_keys ? matched : none;
    const auto width = static_cast<size_t>(std::max(layer.k.head_dim, layer.v.head_dim));
    const cpu_stage merging = {2 * layer.k.n_head_kv, plan.target.size() * width,
                               [&](int64_t task, float * scratch) {
                                   const bool values = task % 2 != 0;
                                   merge_head(values ? layer.v : layer.k, task / 2, m.merge, plan,
                                              values ? matched : of_keys, scratch);
                               }};
    run_stages(runner, {merging}, 0);
}

} // namespace lookm
