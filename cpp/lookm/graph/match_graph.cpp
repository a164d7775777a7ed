#include "lookm/graph/match_graph.h"

namespace lookm {

ggml_tensor * unit_rows(ggml_context * ctx, ggml_tensor * rows) {
    return ggml_l2_norm(ctx, rows, 1e-12f); // x / max(|x|, eps): a zero row stays zero
}

match_nodes match(ggml_context * ctx, ggml_tensor * unit_kept, ggml_tensor * evicted, bool with_weight) {
    const int64_t n_keep = unit_kept->ne[1];
    const int64_t n_evict = evicted->ne[1];
    const int64_t n_h = evicted->ne[2];
    // |x_i| > 0 does not change which kept row is nearest, so evicted rows are normalised for the weight only
    ggml_tensor * sim = ggml_mul_mat(ctx, unit_kept, evicted); // [n_keep, n_evict, n_h]
    ggml_prec_set_acc(sim, GGML_PREC_F32);
    ggml_tensor * pivot = ggml_argmax(ctx, ggml_reshape_2d(ctx, sim, n_keep, n_evict * n_h));
    match_nodes nodes = {ggml_reshape_2d(ctx, pivot, n_evict, n_h), nullptr};
    if (with_weight) {
        ggml_tensor * nearest = ggml_get_rows(ctx, unit_kept, nodes.pivot);
        nodes.weight = ggml_sum_rows(ctx, ggml_mul(ctx, nearest, unit_rows(ctx, evicted)));
    }
    return nodes;
}

} // namespace lookm
