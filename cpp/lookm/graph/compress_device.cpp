#include "lookm/graph/compress_forms.h"
#include "lookm/graph/match_graph.h"

#include <algorithm>
#include <vector>

namespace lookm {

namespace {

struct inputs {
    ggml_tensor * kept;     // [n_keep, n_head_kv] i32
    ggml_tensor * evicted;  // [n_evict, n_head_kv] i32
    ggml_tensor * ones;     // [1, n_evict] f32
    ggml_tensor * target_k; // [n_keep] i64
    ggml_tensor * target_v; // the same, or one index per element of a transposed V
};

ggml_tensor * columns(ggml_context * ctx, ggml_tensor * t, int64_t i0, int64_t n_i, int64_t h0, int64_t n_h) {
    return ggml_view_2d(ctx, t, n_i, n_h, t->nb[1], i0 * t->nb[0] + h0 * t->nb[1]);
}

// rows [d, n_e, n_h] summed by pivot: [d, n_keep, n_h]; one_hot [n_e, n_keep, n_h]
ggml_tensor * sum_by_pivot(ggml_context * ctx, ggml_tensor * rows, ggml_tensor * one_hot) {
    ggml_tensor * sum = ggml_mul_mat(ctx, ggml_cont(ctx, ggml_transpose(ctx, rows)), one_hot);
    ggml_prec_set_acc(sum, GGML_PREC_F32);
    return sum;
}

// [n_keep, n_e, n_h] with a one at each row's pivot, transposed to [n_e, n_keep, n_h]
ggml_tensor * one_hot_of(ggml_context * ctx, ggml_tensor * pivot, ggml_tensor * ones, int64_t n_keep) {
    const int64_t n_e = pivot->ne[0];
    const int64_t n_h = pivot->ne[1];
    ggml_tensor * zero = ggml_fill(ctx, ggml_new_tensor_3d(ctx, GGML_TYPE_F32, n_keep, n_e, n_h), 0.0f);
    // ggml_set_rows wants the index along rows: each (evicted, head) pair is a matrix of n_keep rows of one element
    ggml_tensor * cells = ggml_reshape_4d(ctx, zero, 1, n_keep, n_e, n_h);
    ggml_tensor * one = ggml_repeat_4d(ctx, ggml_reshape_4d(ctx, ones, 1, 1, n_e, 1), 1, 1, n_e, n_h);
    ggml_tensor * hot = ggml_set_rows(ctx, cells, one, ggml_reshape_3d(ctx, pivot, 1, n_e, n_h));
    return ggml_cont(ctx, ggml_transpose(ctx, ggml_reshape_3d(ctx, hot, n_keep, n_e, n_h)));
}

ggml_tensor * add(ggml_context * ctx, ggml_tensor * a, ggml_tensor * b) {
    return a ? ggml_add(ctx, a, b) : b;
}

// (a * row + b * sum) / (1 + n), count [1, n_keep, n_h]
ggml_tensor * merged(ggml_context * ctx, ggml_tensor * rows, ggml_tensor * sum, ggml_tensor * count,
                     const merge_weights & w) {
    ggml_tensor * own = ggml_mul(ctx, rows, ggml_scale_bias(ctx, count, w.per_count, 1.0f));
    ggml_tensor * all = ggml_add(ctx, own, ggml_scale(ctx, sum, w.b));
    return ggml_div(ctx, all, ggml_scale_bias(ctx, count, 1.0f, 1.0f));
}

// All nodes of heads [h0, h0 + n_h); returns the pivot tensors, tile by tile along the evicted rows.
std::vector<ggml_tensor *> build_heads(graph_runner & runner, ggml_context * ctx, const kv_layer & layer, merge how,
                                       const inputs & in, int64_t h0, int64_t n_h, int64_t n_tile) {
    const int64_t n_keep = in.kept->ne[0];
    const int64_t n_evict = in.evicted->ne[0];
    const merge_weights w = weights_of(how);
    ggml_tensor * k_rows = head_rows(ctx, layer.k, h0, n_h);
    ggml_tensor * v_rows = head_rows(ctx, layer.v, h0, n_h);
    ggml_tensor * kept = columns(ctx, in.kept, 0, n_keep, h0, n_h);
    ggml_tensor * k = ggml_get_rows(ctx, k_rows, kept);
    ggml_tensor * v = ggml_get_rows(ctx, v_rows, kept);
    ggml_tensor * unit = unit_rows(ctx, k);
    ggml_tensor *sum_k = nullptr, *sum_v = nullptr, *count = nullptr;
    std::vector<ggml_tensor *> pivots;
    for (int64_t e0 = 0; how != merge::none && e0 < n_evict; e0 += n_tile) {
        const int64_t n_e = std::min(n_tile, n_evict - e0);
        ggml_tensor * gone = columns(ctx, in.evicted, e0, n_e, h0, n_h);
        ggml_tensor * k_e = ggml_get_rows(ctx, k_rows, gone);
        ggml_tensor * v_e = ggml_get_rows(ctx, v_rows, gone);
        const match_nodes m = match(ctx, unit, k_e, w.by_cosine);
        ggml_set_output(m.pivot->view_src);
        pivots.push_back(m.pivot);
        if (w.by_cosine) {
            k_e = ggml_mul(ctx, k_e, m.weight);
            v_e = ggml_mul(ctx, v_e, m.weight);
        }
        ggml_tensor * hot = one_hot_of(ctx, m.pivot, columns(ctx, in.ones, 0, 1, 0, n_e), n_keep);
        sum_k = add(ctx, sum_k, sum_by_pivot(ctx, k_e, hot));
        sum_v = add(ctx, sum_v, sum_by_pivot(ctx, v_e, hot));
        count = add(ctx, count, ggml_sum_rows(ctx, hot));
    }
    if (sum_k) {
        k = merged(ctx, k, sum_k, count, w);
        v = merged(ctx, v, sum_v, count, w);
    }
    // both sides are computed before either is written: the rows are read where they are written to
    ggml_build_forward_expand(runner.graph(), k);
    ggml_build_forward_expand(runner.graph(), v);
    put_rows(ctx, runner.graph(), layer.k, h0, k, in.target_k);
    put_rows(ctx, runner.graph(), layer.v, h0, v, in.target_v);
    return pivots;
}

std::vector<int64_t> target_index(const kv_rows & rows, std::span<const int32_t> target) {
    if (!rows.transposed) {
        return {target.begin(), target.end()};
    }
    std::vector<int64_t> index;
    for (const int32_t cell : target) {
        for (int64_t e = 0; e < rows.head_dim; ++e) {
            index.push_back(e * rows.n_cells + cell);
        }
    }
    return index;
}

ggml_tensor * input(ggml_context * ctx, ggml_type type, int64_t ne0, int64_t ne1) {
    ggml_tensor * t = ggml_new_tensor_2d(ctx, type, ne0, ne1);
    ggml_set_input(t);
    return t;
}

void set_input(ggml_tensor * t, const void * data) {
    if (t->buffer) { // an input that no node reads is not allocated
        ggml_backend_tensor_set(t, data, 0, ggml_nbytes(t));
    }
}

} // namespace

matches compress_on_device(graph_runner & runner, const kv_layer & layer, merge how, const layer_plan & plan) {
    const int64_t n_head = layer.k.n_head_kv;
    const auto n_keep = static_cast<int64_t>(plan.target.size());
    const int64_t n_evict = static_cast<int64_t>(plan.evicted.size()) / n_head;
    // similarity, one-hot and its transpose live at once
    const int64_t per_row = n_keep * 3 * static_cast<int64_t>(sizeof(float));
    const int64_t n_rows = std::max<int64_t>(64, static_cast<int64_t>(tile_bytes(runner)) / per_row);
    const int64_t n_tile = std::min(n_rows, n_evict);
    const int64_t n_h = std::clamp<int64_t>(n_rows / std::max<int64_t>(1, n_tile), 1, n_head);
    const int64_t n_tiles = n_tile ? (n_evict + n_tile - 1) / n_tile : 0;

    ggml_context * ctx = runner.begin((n_head / n_h + 1) * (30 + 4 * n_h + 30 * n_tiles));
    const auto index_k = target_index(layer.k, plan.target);
    const auto index_v = target_index(layer.v, plan.target);
    const inputs in = {input(ctx, GGML_TYPE_I32, n_keep, n_head), input(ctx, GGML_TYPE_I32, n_evict, n_head),
                       input(ctx, GGML_TYPE_F32, 1, n_evict), input(ctx, GGML_TYPE_I64, index_k.size(), 1),
                       input(ctx, GGML_TYPE_I64, index_v.size(), 1)};
    std::vector<std::vector<ggml_tensor *>> pivots;
    for (int64_t h0 = 0; h0 < n_head; h0 += n_h) {
        pivots.push_back(build_heads(runner, ctx, layer, how, in, h0, std::min(n_h, n_head - h0), n_tile));
    }
    runner.alloc();
    const std::vector<float> ones(n_evict, 1.0f);
    set_input(in.kept, plan.kept.data());
    set_input(in.evicted, plan.evicted.data());
    set_input(in.ones, ones.data());
    set_input(in.target_k, index_k.data());
    set_input(in.target_v, index_v.data());
    runner.compute();

    matches m;
    m.pivot.resize(how == merge::none ? 0 : plan.evicted.size());
    for (size_t g = 0; g < pivots.size(); ++g) {
        int64_t e0 = 0;
        for (ggml_tensor * pivot : pivots[g]) { // [n_e, heads of this group]
            for (int64_t h = 0; h < pivot->ne[1]; ++h) {
                const int64_t head = static_cast<int64_t>(g) * n_h + h;
                ggml_backend_tensor_get(pivot, m.pivot.data() + head * n_evict + e0, h * pivot->nb[1], pivot->nb[1]);
            }
            e0 += pivot->ne[0];
        }
    }
    return m;
}

} // namespace lookm
