#include "lookm/graph/match_graph.h"

#include <algorithm>

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

matches match_layer(graph_runner & runner, const kv_rows & k, std::span<const int32_t> kept,
                    std::span<const int32_t> evicted, bool with_weight) {
    const int64_t n_keep = static_cast<int64_t>(kept.size()) / k.n_head_kv;
    const int64_t n_evict = static_cast<int64_t>(evicted.size()) / k.n_head_kv;
    const int64_t rows = static_cast<int64_t>(tile_bytes(runner) / sizeof(float)) / n_keep;
    const int64_t n_tile = std::clamp<int64_t>(rows, std::min<int64_t>(64, n_evict), n_evict);

    struct tile {
        int64_t h, e0, n_e;
        ggml_tensor * index;
        match_nodes nodes;
    };
    std::vector<tile> tiles;
    for (int64_t h = 0; h < k.n_head_kv; ++h) {
        for (int64_t e0 = 0; e0 < n_evict; e0 += n_tile) {
            tiles.push_back({h, e0, std::min(n_tile, n_evict - e0), nullptr, {}});
        }
    }

    ggml_context * ctx = runner.begin(tiles.size() * 8 + k.n_head_kv * 6);
    ggml_tensor * kept_index = ggml_new_tensor_2d(ctx, GGML_TYPE_I32, n_keep, k.n_head_kv);
    ggml_set_input(kept_index);
    ggml_tensor * unit_kept = nullptr;
    ggml_tensor * keys = nullptr;
    for (tile & t : tiles) {
        if (t.e0 == 0) {
            keys = head_rows(ctx, k, t.h, 1);
            unit_kept = unit_rows(ctx, ggml_get_rows(ctx, keys,
                                                     ggml_view_2d(ctx, kept_index, n_keep, 1, kept_index->nb[1],
                                                                  t.h * kept_index->nb[1])));
        }
        t.index = ggml_new_tensor_2d(ctx, GGML_TYPE_I32, t.n_e, 1);
        ggml_set_input(t.index);
        t.nodes = match(ctx, unit_kept, ggml_get_rows(ctx, keys, t.index), with_weight);
        ggml_set_output(t.nodes.pivot->view_src); // the argmax itself
        ggml_build_forward_expand(runner.graph(), t.nodes.pivot);
        if (with_weight) {
            ggml_set_output(t.nodes.weight);
            ggml_build_forward_expand(runner.graph(), t.nodes.weight);
        }
    }
    runner.alloc();
    ggml_backend_tensor_set(kept_index, kept.data(), 0, ggml_nbytes(kept_index));
    for (const tile & t : tiles) {
        ggml_backend_tensor_set(t.index, evicted.data() + t.h * n_evict + t.e0, 0, ggml_nbytes(t.index));
    }
    runner.compute();

    matches m;
    m.pivot.resize(evicted.size());
    m.weight.resize(with_weight ? evicted.size() : 0);
    for (const tile & t : tiles) {
        const size_t at = t.h * n_evict + t.e0;
        ggml_backend_tensor_get(t.nodes.pivot, m.pivot.data() + at, 0, t.n_e * sizeof(int32_t));
        if (with_weight) {
            ggml_backend_tensor_get(t.nodes.weight, m.weight.data() + at, 0, t.n_e * sizeof(float));
        }
    }
    return m;
}

} // namespace lookm
