#include "lookm/graph/match_graph.h"

#include "lookm/graph/graph_inputs.h"

#include <algorithm>

namespace lookm {

namespace {

constexpr float never = -1e30f; // added to a similarity, which is at most the length of a key

struct inputs {
    ggml_tensor *kept, *evicted; // [n_keep, n_head_kv], [n_evict, n_head_kv] i32
    // f32 of the same shapes, 0 or 1 and 0 or -1; nullptr if rows of any kind match
    ggml_tensor *kept_kind, *evicted_kind;
};

struct tile {
    int64_t h0, n_h, e0, n_e;
    ggml_tensor * pivot;  // [n_e, n_h] i32
    ggml_tensor * weight; // [1, n_e, n_h] f32, or nullptr
};

// x / max(|x|, eps), so that a zero row stays zero
ggml_tensor * unit_rows(ggml_context * ctx, ggml_tensor * rows) {
    return ggml_l2_norm(ctx, rows, 1e-12f);
}

// sim [n_keep, n_e, n_h], with `never` added where the kinds differ
ggml_tensor * of_one_kind(ggml_context * ctx, ggml_tensor * sim, const inputs & in,
                          const tile & t) {
    ggml_tensor * kept = ggml_view_3d(ctx, in.kept_kind, sim->ne[0], 1, t.n_h, in.kept_kind->nb[1],
                                      in.kept_kind->nb[1], t.h0 * in.kept_kind->nb[1]);
    ggml_tensor * evicted = upright(ctx, in.evicted_kind, t.e0, t.n_e, t.h0, t.n_h);
    ggml_tensor * differ =
        ggml_add(ctx, ggml_repeat_4d(ctx, kept, sim->ne[0], t.n_e, t.n_h, 1), evicted);
    return ggml_add(ctx, sim, ggml_scale(ctx, ggml_mul(ctx, differ, differ), never));
}

// Matches the evicted rows of a tile with all kept rows of its heads, unit [head_dim, n_keep, n_h].
void match_tile(ggml_context * ctx, ggml_tensor * k_rows, ggml_tensor * unit, const inputs & in,
                bool with_weight, tile & t) {
    const int64_t n_keep = unit->ne[1];
    ggml_tensor * evicted =
        ggml_get_rows(ctx, k_rows, columns(ctx, in.evicted, t.e0, t.n_e, t.h0, t.n_h));
    // the length of an evicted row does not change which kept row is the most similar, so evicted
    // rows are normalised for the weight only
    ggml_tensor * sim = ggml_mul_mat(ctx, unit, evicted); // [n_keep, n_e, n_h]
    ggml_prec_set_acc(sim, GGML_PREC_F32);
    if (in.kept_kind) {
        sim = of_one_kind(ctx, sim, in, t);
    }
    ggml_tensor * pivot = ggml_argmax(ctx, ggml_reshape_2d(ctx, sim, n_keep, t.n_e * t.n_h));
    ggml_set_output(pivot);
    t.pivot = ggml_reshape_2d(ctx, pivot, t.n_e, t.n_h);
    if (with_weight) {
        ggml_tensor * nearest = ggml_get_rows(ctx, unit, t.pivot);
        t.weight = ggml_sum_rows(ctx, ggml_mul(ctx, nearest, unit_rows(ctx, evicted)));
        ggml_set_output(t.weight);
    }
}

std::vector<float> kinds_of(const match_task & task, std::span<const int32_t> cells, float text) {
    std::vector<float> out(cells.size());
    std::transform(cells.begin(), cells.end(), out.begin(),
                   [&](int32_t c) { return task.kind[c] == token_kind::text ? text : 0.0f; });
    return out;
}

void set_inputs(const inputs & in, const match_task & task) {
    set_graph_input(in.kept, task.kept.data());
    set_graph_input(in.evicted, task.evicted.data());
    if (in.kept_kind) {
        set_graph_input(in.kept_kind, kinds_of(task, task.kept, 1.0f).data());
        set_graph_input(in.evicted_kind, kinds_of(task, task.evicted, -1.0f).data());
    }
}

matches read(const std::vector<tile> & tiles, int64_t n_evict, int64_t n_head) {
    matches m;
    m.pivot.resize(n_evict * n_head);
    m.weight.resize(tiles.front().weight ? n_evict * n_head : 0);
    for (const tile & t : tiles) {
        const size_t bytes = t.n_e * sizeof(float); // of one head; pivots are of the same size
        for (int64_t h = 0; h < t.n_h; ++h) {
            const int64_t at = (t.h0 + h) * n_evict + t.e0;
            ggml_backend_tensor_get(t.pivot, m.pivot.data() + at, h * bytes, bytes);
            if (t.weight) {
                ggml_backend_tensor_get(t.weight, m.weight.data() + at, h * bytes, bytes);
            }
        }
    }
    return m;
}

} // namespace

evicted_tiles::evicted_tiles(const graph_runner & runner, int64_t n_keep, int64_t n_evict,
                             int64_t n_head, int64_t per_tile) {
    const int64_t per_row = n_keep * 3 * static_cast<int64_t>(sizeof(float));
    const int64_t n_rows =
        std::max<int64_t>(64, static_cast<int64_t>(tile_bytes(runner)) / per_row);
    n_e = std::min(n_rows, n_evict);
    n_h = std::clamp<int64_t>(n_rows / std::max<int64_t>(1, n_e), 1, n_head);
    const int64_t n_tiles = n_e ? (n_evict + n_e - 1) / n_e : 0;
    n_nodes = (n_head / n_h + 1) * (30 + 4 * n_h + per_tile * n_tiles);
}

matches match_on_device(graph_runner & runner, const kv_rows & k, const match_task & task) {
    const int64_t n_head = k.n_head_kv;
    const auto n_keep = static_cast<int64_t>(task.kept.size()) / n_head;
    const auto n_evict = static_cast<int64_t>(task.evicted.size()) / n_head;
    const evicted_tiles size(runner, n_keep, n_evict, n_head, 20);

    ggml_context * ctx = runner.begin(size.n_nodes);
    const auto kinds = [&](int64_t n) {
        return task.kind.empty() ? nullptr : graph_input(ctx, GGML_TYPE_F32, n, n_head);
    };
    const inputs in = {graph_input(ctx, GGML_TYPE_I32, n_keep, n_head),
                       graph_input(ctx, GGML_TYPE_I32, n_evict, n_head), kinds(n_keep),
                       kinds(n_evict)};
    std::vector<tile> tiles;
    for (int64_t h0 = 0; h0 < n_head; h0 += size.n_h) {
        const int64_t n_h = std::min(size.n_h, n_head - h0);
        ggml_tensor * rows = head_rows(ctx, k, h0, n_h);
        ggml_tensor * unit =
            unit_rows(ctx, ggml_get_rows(ctx, rows, columns(ctx, in.kept, 0, n_keep, h0, n_h)));
        for (int64_t e0 = 0; e0 < n_evict; e0 += size.n_e) {
            tile t = {h0, n_h, e0, std::min(size.n_e, n_evict - e0), nullptr, nullptr};
            match_tile(ctx, rows, unit, in, task.with_weight, t);
            ggml_build_forward_expand(runner.graph(), t.weight ? t.weight : t.pivot);
            tiles.push_back(t);
        }
    }
    runner.alloc();
    set_inputs(in, task);
    runner.compute();

    matches m = read(tiles, n_evict, n_head);
    if (!task.kind.empty()) {
        drop_unmatched(m, task, n_head);
    }
    return m;
}

} // namespace lookm
