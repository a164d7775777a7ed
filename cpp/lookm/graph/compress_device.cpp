#include "lookm/graph/compress_forms.h"
#include "lookm/graph/graph_inputs.h"
#include "lookm/graph/match_graph.h"

#include <algorithm>
#include <vector>

namespace lookm {

namespace {

struct inputs {
    ggml_tensor * kept;    // [n_keep, n_head_kv] i32
    ggml_tensor * evicted; // [n_evict, n_head_kv] i32
    ggml_tensor * pivot;   // [n_evict, n_head_kv] i32, 0 for dropped rows
    ggml_tensor * taken;   // [n_evict, n_head_kv] f32, 0 for dropped rows, 1 for the others
    ggml_tensor * weight;  // [n_evict, n_head_kv] f32; nullptr if rows are summed unweighted
    // [n_keep, n_tile, n_h] f32, shared by all tiles for its shape: one leaf for each tile would
    // hold memory during the whole graph
    ggml_tensor * blank;
    ggml_tensor * target_k; // [n_keep] i64
    ggml_tensor * target_v; // the same, or one index per element of a transposed V
};

// Sums rows [d, n_e, n_h] by pivot to [d, n_keep, n_h]; one_hot [n_e, n_keep, n_h]
ggml_tensor * sum_by_pivot(ggml_context * ctx, ggml_tensor * rows, ggml_tensor * one_hot) {
    ggml_tensor * sum = ggml_mul_mat(ctx, ggml_cont(ctx, ggml_transpose(ctx, rows)), one_hot);
    ggml_prec_set_acc(sum, GGML_PREC_F32);
    return sum;
}

// [n_keep, n_e, n_h] with a 1 at the pivot of each taken row, transposed to [n_e, n_keep, n_h]
ggml_tensor * one_hot_of(ggml_context * ctx, const inputs & in, int64_t e0, int64_t n_e, int64_t h0,
                         int64_t n_h) {
    const int64_t n_keep = in.kept->ne[0];
    ggml_tensor * blank =
        ggml_view_3d(ctx, in.blank, n_keep, n_e, n_h, in.blank->nb[1], n_e * in.blank->nb[1], 0);
    ggml_tensor * zero = ggml_fill(ctx, blank, 0.0f);
    // ggml_set_rows indexes rows, so each (evicted, head) pair becomes a matrix of n_keep rows of
    // one element
    ggml_tensor * cells = ggml_reshape_4d(ctx, zero, 1, n_keep, n_e, n_h);
    ggml_tensor * one = ggml_cont_4d(ctx, columns(ctx, in.taken, e0, n_e, h0, n_h), 1, 1, n_e, n_h);
    ggml_tensor * hot = ggml_set_rows(ctx, cells, one, upright(ctx, in.pivot, e0, n_e, h0, n_h));
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

// Adds all nodes of heads [h0, h0 + n_h), one tile of evicted rows after the other.
void build_heads(graph_runner & runner, ggml_context * ctx, const kv_layer & layer,
                 const method & m, const inputs & in, int64_t h0, int64_t n_h, int64_t n_tile) {
    const int64_t n_evict = in.evicted->ne[0];
    const merge_weights w = weights_of(m.merge);
    ggml_tensor * k_rows = head_rows(ctx, layer.k, h0, n_h);
    ggml_tensor * v_rows = head_rows(ctx, layer.v, h0, n_h);
    ggml_tensor * kept = columns(ctx, in.kept, 0, in.kept->ne[0], h0, n_h);
    ggml_tensor * k = ggml_get_rows(ctx, k_rows, kept);
    ggml_tensor * v = ggml_get_rows(ctx, v_rows, kept);
    ggml_tensor *sum_k = nullptr, *sum_v = nullptr, *count = nullptr;
    for (int64_t e0 = 0; m.merge != merge::none && e0 < n_evict; e0 += n_tile) {
        const int64_t n_e = std::min(n_tile, n_evict - e0);
        ggml_tensor * gone = columns(ctx, in.evicted, e0, n_e, h0, n_h);
        ggml_tensor * hot = one_hot_of(ctx, in, e0, n_e, h0, n_h);
        const auto evicted = [&](ggml_tensor * rows) {
            ggml_tensor * x = ggml_get_rows(ctx, rows, gone);
            return in.weight ? ggml_mul(ctx, x, upright(ctx, in.weight, e0, n_e, h0, n_h)) : x;
        };
        if (m.merge_keys) {
            sum_k = add(ctx, sum_k, sum_by_pivot(ctx, evicted(k_rows), hot));
        }
        sum_v = add(ctx, sum_v, sum_by_pivot(ctx, evicted(v_rows), hot));
        count = add(ctx, count, ggml_sum_rows(ctx, hot));
        // adds the nodes to the graph now: in the order that the outputs would give at the end, the
        // one-hot matrices of all tiles would stay in memory until V is summed
        for (ggml_tensor * sum : {sum_k, sum_v, count}) {
            if (sum) {
                ggml_build_forward_expand(runner.graph(), sum);
            }
        }
    }
    k = sum_k ? merged(ctx, k, sum_k, count, w) : k;
    v = sum_v ? merged(ctx, v, sum_v, count, w) : v;
    // K and V are both computed before either is written, as the writes overwrite rows that are
    // read
    ggml_build_forward_expand(runner.graph(), k);
    ggml_build_forward_expand(runner.graph(), v);
    put_rows(ctx, runner.graph(), layer.k, h0, k, in.target_k);
    put_rows(ctx, runner.graph(), layer.v, h0, v, in.target_v);
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

void set_matches(const inputs & in, const matches & matched) {
    std::vector<int32_t> pivot(matched.pivot.size());
    std::vector<float> taken(matched.pivot.size());
    for (size_t i = 0; i < matched.pivot.size(); ++i) {
        pivot[i] = std::max(matched.pivot[i], 0);
        taken[i] = matched.pivot[i] < 0 ? 0.0f : 1.0f;
    }
    set_graph_input(in.pivot, pivot.data());
    set_graph_input(in.taken, taken.data());
    set_graph_input(in.weight, matched.weight.data());
}

} // namespace

void merge_on_device(graph_runner & runner, const kv_layer & layer, const method & m,
                     const layer_plan & plan, const matches & matched) {
    const int64_t n_head = layer.k.n_head_kv;
    const auto n_keep = static_cast<int64_t>(plan.target.size());
    const int64_t n_evict = static_cast<int64_t>(plan.evicted.size()) / n_head;
    const evicted_tiles size(runner, n_keep, n_evict, n_head, 30);

    ggml_context * ctx = runner.begin(size.n_nodes);
    const auto index_k = target_index(layer.k, plan.target);
    const auto index_v = target_index(layer.v, plan.target);
    const auto of_evicted = [&](ggml_type type) { return graph_input(ctx, type, n_evict, n_head); };
    const inputs in = {graph_input(ctx, GGML_TYPE_I32, n_keep, n_head),
                       of_evicted(GGML_TYPE_I32),
                       of_evicted(GGML_TYPE_I32),
                       of_evicted(GGML_TYPE_F32),
                       weights_of(m.merge).by_cosine ? of_evicted(GGML_TYPE_F32) : nullptr,
                       ggml_new_tensor_3d(ctx, GGML_TYPE_F32, n_keep, size.n_e, size.n_h),
                       graph_input(ctx, GGML_TYPE_I64, static_cast<int64_t>(index_k.size()), 1),
                       graph_input(ctx, GGML_TYPE_I64, static_cast<int64_t>(index_v.size()), 1)};
    for (int64_t h0 = 0; h0 < n_head; h0 += size.n_h) {
        build_heads(runner, ctx, layer, m, in, h0, std::min(size.n_h, n_head - h0), size.n_e);
    }
    runner.alloc();
    set_graph_input(in.kept, plan.kept.data());
    set_graph_input(in.evicted, plan.evicted.data());
    set_graph_input(in.target_k, index_k.data());
    set_graph_input(in.target_v, index_v.data());
    if (m.merge != merge::none) {
        set_matches(in, matched);
    }
    runner.compute();
}

} // namespace lookm
