#include "lookm/graph/cpu_stages.h"
#include "lookm/graph/cpu_tiles.h"
#include "lookm/graph/score_forms.h"

#include <algorithm>

namespace lookm {

namespace {

constexpr int64_t n_cells_at_once = 256; // the sums of one task fit into the L1 cache

float * at(const ggml_tensor * t, int64_t cell, int64_t row, int64_t head) {
    return reinterpret_cast<float *>(static_cast<char *>(t->data) + row * t->nb[1] +
                                     head * t->nb[2]) +
           cell;
}

} // namespace

void add_scores_on_host(graph_runner & runner, const ggml_tensor * probs, const score_sums & out) {
    const int64_t n_kv = probs->ne[0];
    const int64_t n_group = probs->ne[2] / out.sum->ne[1];
    const int64_t n_parts = (n_kv + n_cells_at_once - 1) / n_cells_at_once;
    const auto stride = static_cast<int64_t>(probs->nb[1] / sizeof(float));
    const auto add_part = [&](int64_t task, float *) {
        const int64_t h = task / n_parts;
        const int64_t c0 = task % n_parts * n_cells_at_once;
        const int64_t n = std::min(n_cells_at_once, n_kv - c0);
        for (int64_t head = h * n_group; head < (h + 1) * n_group; ++head) {
            lookm_tiles().add_rows(at(probs, c0, 0, head), probs->ne[1], stride, n,
                                   1.0f / static_cast<float>(n_group), at(out.sum, c0, h, 0),
                                   out.squares ? at(out.squares, c0, h, 0) : nullptr);
        }
    };
    run_stages(runner, {{out.sum->ne[1] * n_parts, 1, add_part}}, 0);
}

} // namespace lookm
