#include "lookm/graph/score_forms.h"

#include <algorithm>
#include <vector>

namespace lookm {

namespace {

struct tile {
    int64_t h0, n_h; // KV heads
    int64_t i0, n_i; // queries
};

// out_prod runs one thread per KV head, while a matrix product is fast with many rows: each tile
// has several of both.
constexpr int64_t n_head_per_tile = 4;
constexpr int64_t n_query_per_tile = 32; // with fewer than this, a tile takes fewer heads instead
// arrays of a tile's size that exist at once: probabilities, squares, a transposed copy of either
constexpr int64_t n_live = 3;

std::vector<tile> make_tiles(int64_t n_head_kv, int64_t n_h, int64_t n_tokens, int64_t n_i) {
    std::vector<tile> tiles;
    for (int64_t h0 = 0; h0 < n_head_kv; h0 += n_h) {
        for (int64_t i0 = 0; i0 < n_tokens; i0 += n_i) {
            tiles.push_back({h0, std::min(n_h, n_head_kv - h0), i0, std::min(n_i, n_tokens - i0)});
        }
    }
    return tiles;
}

// Tiles of at most n_bytes, but at least one query of one KV head. n_row: number of probabilities
// of one query in all query heads of a KV head
std::vector<tile> tiles_within(size_t n_bytes, int64_t n_row, int64_t n_head_kv, int64_t n_tokens) {
    const int64_t n_rows = static_cast<int64_t>(n_bytes / sizeof(float)) / (n_live * n_row);
    const int64_t n_h =
        std::clamp<int64_t>(n_rows / n_query_per_tile, 1, std::min(n_head_kv, n_head_per_tile));
    const int64_t n_i = std::clamp<int64_t>(n_rows / n_h, 1, n_tokens);
    return make_tiles(n_head_kv, n_h, n_tokens, n_i);
}

// Rows [i0, i0 + n_i) and heads [h0, h0 + n_h) of a tensor [n, rows, heads]
ggml_tensor * slice(ggml_context * ctx, ggml_tensor * t, int64_t i0, int64_t n_i, int64_t h0,
                    int64_t n_h) {
    return ggml_view_3d(ctx, t, t->ne[0], n_i, n_h, t->nb[1], t->nb[2],
                        i0 * t->nb[1] + h0 * t->nb[2]);
}

// probs [n_kv, n_i, n_group * n_h] -> weighted column sums [n_kv, n_h]; weights [1, >= n_i *
// n_group, >= n_h], all equal
ggml_tensor * column_sums(graph_runner & runner, ggml_context * ctx, ggml_tensor * probs,
                          ggml_tensor * weights, int64_t n_h, float weight) {
    const int64_t n_kv = probs->ne[0];
    const int64_t rows = probs->ne[1] * probs->ne[2] / n_h;
    probs = ggml_reshape_3d(ctx, probs, n_kv, rows, n_h);
    ggml_tensor * w = ggml_view_3d(ctx, weights, 1, rows, n_h, weights->nb[1], weights->nb[2], 0);
    ggml_tensor * sums = ggml_out_prod(ctx, probs, w); // reads probs once
    if (!runner.supports(sums)) {
        sums =
            ggml_scale(ctx, ggml_sum_rows(ctx, ggml_cont(ctx, ggml_transpose(ctx, probs))), weight);
    }
    return ggml_reshape_2d(ctx, sums, n_kv, n_h);
}

void accumulate(ggml_context * ctx, ggml_cgraph * graph, ggml_tensor * sum, ggml_tensor * sums,
                int64_t h0) {
    ggml_tensor * view =
        ggml_view_2d(ctx, sum, sums->ne[0], sums->ne[1], sum->nb[1], h0 * sum->nb[1]);
    ggml_build_forward_expand(graph, ggml_cpy(ctx, ggml_add(ctx, view, sums), view));
}

template <class MakeProbs>
void run(graph_runner & runner, const score_sums & out, const std::vector<tile> & tiles,
         int64_t n_group, MakeProbs make_probs) {
    const float weight = 1.0f / static_cast<float>(n_group);
    const int64_t n_rows = tiles.front().n_i * n_group;

    ggml_context * ctx = runner.begin(tiles.size() * 16);
    ggml_tensor * sum = as_leaf(ctx, out.sum);
    ggml_tensor * squares = out.squares ? as_leaf(ctx, out.squares) : nullptr;
    ggml_tensor * weights = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, 1, n_rows, tiles.front().n_h);
    ggml_set_input(weights);
    make_probs.bind(ctx);
    for (const tile & t : tiles) {
        ggml_tensor * probs = make_probs(ctx, t, n_group);
        accumulate(ctx, runner.graph(), sum,
                   column_sums(runner, ctx, probs, weights, t.n_h, weight), t.h0);
        if (squares) {
            ggml_tensor * p2 = ggml_sqr(ctx, probs);
            accumulate(ctx, runner.graph(), squares,
                       column_sums(runner, ctx, p2, weights, t.n_h, weight), t.h0);
        }
    }
    runner.alloc();
    if (weights->buffer) { // it has none if no node uses it
        const std::vector<float> w(ggml_nelements(weights), weight);
        ggml_backend_tensor_set(weights, w.data(), 0, ggml_nbytes(weights));
    }
    runner.compute();
}

struct probs_of_attention {
    const graph_runner & runner;
    const attention & a;
    ggml_tensor *q = nullptr, *k = nullptr, *mask = nullptr, *sinks = nullptr;

    void bind(ggml_context * ctx) {
        q = as_leaf(ctx, a.q);
        k = as_leaf(ctx, a.k);
        mask = as_leaf(ctx, a.mask);
        sinks = a.sinks ? as_leaf(ctx, a.sinks) : nullptr;
    }

    ggml_tensor * operator()(ggml_context * ctx, const tile & t, int64_t n_group) const {
        const int64_t q0 = t.h0 * n_group;
        const int64_t n_q = t.n_h * n_group;
        ggml_tensor * k_t = aligned(runner, ctx, slice(ctx, k, 0, k->ne[1], t.h0, t.n_h));
        ggml_tensor * q_t = aligned(runner, ctx, slice(ctx, q, t.i0, t.n_i, q0, n_q));
        ggml_tensor * m_t =
            ggml_view_2d(ctx, mask, mask->ne[0], t.n_i, mask->nb[1], t.i0 * mask->nb[1]);
        ggml_tensor * kq = ggml_mul_mat(ctx, k_t, q_t);
        float scale = a.scale;
        ggml_prec_set_acc(kq, GGML_PREC_F32);
        if (a.softcap != 0.0f) {
            kq = ggml_tanh(ctx, ggml_scale(ctx, kq, a.scale / a.softcap));
            scale = a.softcap;
        }
        ggml_tensor * probs = ggml_soft_max_ext_inplace(ctx, kq, m_t, scale, a.max_bias);
        if (sinks) {
            ggml_tensor * s_t = ggml_view_1d(ctx, sinks, n_q, q0 * sinks->nb[0]);
            ggml_soft_max_add_sinks(probs, aligned(runner, ctx, s_t));
        }
        return probs;
    }
};

struct probs_that_exist {
    const ggml_tensor * probs_in;
    ggml_tensor * probs = nullptr;

    void bind(ggml_context * ctx) { probs = as_leaf(ctx, probs_in); }

    ggml_tensor * operator()(ggml_context * ctx, const tile & t, int64_t n_group) const {
        ggml_tensor * part = slice(ctx, probs, t.i0, t.n_i, t.h0 * n_group, t.n_h * n_group);
        return ggml_is_contiguous(part)
                   ? part
                   : ggml_cont(ctx, part); // queries and heads of a group become one dimension
    }
};

} // namespace

void add_scores(graph_runner & runner, const attention & attn, const score_sums & out) {
    if (runner.on_cpu() && attn.max_bias == 0.0f &&
        score_bytes_on_host(runner, attn, out) <= runner.compute_bytes()) {
        add_scores_on_host(runner, attn, out);
    } else {
        add_scores_on_device(runner, attn, out);
    }
}

void add_scores(graph_runner & runner, const ggml_tensor * probs, const score_sums & out) {
    if (runner.on_cpu()) {
        add_scores_on_host(runner, probs, out);
    } else {
        add_scores_on_device(runner, probs, out);
    }
}

void add_scores_on_device(graph_runner & runner, const attention & attn, const score_sums & out) {
    const int64_t n_head_kv = attn.k->ne[2];
    const int64_t n_group = attn.q->ne[2] / n_head_kv;
    const auto tiles =
        tiles_within(tile_bytes(runner), attn.k->ne[1] * n_group, n_head_kv, attn.q->ne[1]);
    run(runner, out, tiles, n_group, probs_of_attention{runner, attn});
}

void add_scores_on_device(graph_runner & runner, const ggml_tensor * probs,
                          const score_sums & out) {
    const int64_t n_head_kv = out.sum->ne[1];
    const int64_t n_group = probs->ne[2] / n_head_kv;
    const auto tiles =
        tiles_within(tile_bytes(runner), probs->ne[0] * n_group, n_head_kv, probs->ne[1]);
    run(runner, out, tiles, n_group, probs_that_exist{probs});
}

} // namespace lookm
