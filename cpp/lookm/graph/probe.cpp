#include "lookm/graph/probe.h"

#include "lookm/core/compression.h"
#include "lookm/graph/compress_forms.h"
#include "lookm/graph/score_forms.h"

#include <algorithm>
#include <numeric>
#include <vector>

namespace lookm {

namespace {

constexpr int64_t n_head = 4, n_head_kv = 2, n_kv = 128, n_tokens = 32, n_keep = 32;

// Once with memory for all heads together, and once with so little that each tile has one head and
// the last tile is a smaller one.
constexpr size_t compute_bytes[] = {default_compute_bytes, size_t(64) << 10};

void probe_scores(graph_runner & runner, ggml_context * ctx, const probe_layer & layer) {
    const int64_t d = layer.head_dim;
    ggml_tensor * sum = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, n_kv, n_head_kv);
    ggml_tensor * squares = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, n_kv, n_head_kv);
    ggml_tensor * probs = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, n_kv, n_tokens, n_head);
    // q and k as attention sees them: heads outermost, as views of rows that hold all heads
    ggml_tensor * q =
        ggml_permute(ctx, ggml_new_tensor_3d(ctx, GGML_TYPE_F32, d, n_head, n_tokens), 0, 2, 1, 3);
    ggml_tensor * k =
        ggml_permute(ctx, ggml_new_tensor_3d(ctx, layer.type_k, d, n_head_kv, n_kv), 0, 2, 1, 3);
    ggml_tensor * mask = ggml_new_tensor_2d(ctx, GGML_TYPE_F16, n_kv, n_tokens);
    ggml_tensor * sinks = ggml_new_tensor_1d(ctx, GGML_TYPE_F32, n_head);
    const ggml_backend_buffer_ptr buffer{ggml_backend_alloc_ctx_tensors(ctx, runner.backend())};
    ggml_backend_buffer_clear(buffer.get(), 0);
    for (const int64_t n : {n_tokens, int64_t(1)}) { // all queries, and the last one alone
        const auto last = [&](ggml_tensor * t) {
            return ggml_view_3d(ctx, t, t->ne[0], n, t->ne[2], t->nb[1], t->nb[2],
                                (t->ne[1] - n) * t->nb[1]);
        };
        if (!layer.flash_attn) {
            add_scores_on_device(runner, last(probs), {sum, squares});
            continue;
        }
        const attention attn = {last(q), k, last(mask), nullptr, 1.0f};
        add_scores_on_device(runner, attn, {sum, squares});
        add_scores_on_device(runner, {attn.q, k, attn.mask, sinks, 1.0f, 0.0f, /*softcap =*/30.0f},
                             {sum, squares});
    }
}

void probe_merges(graph_runner & runner, ggml_context * ctx, const probe_layer & layer) {
    const int64_t d = layer.head_dim;
    const auto storage = [&](ggml_type type) {
        return ggml_new_tensor_2d(ctx, type, d * n_head_kv, n_kv);
    };
    const kv_layer kv = {0,
                         {storage(layer.type_k), 0, n_kv, n_head_kv, d, false},
                         {storage(layer.type_v), 0, n_kv, n_head_kv, d, !layer.flash_attn}};
    const ggml_backend_buffer_ptr buffer{ggml_backend_alloc_ctx_tensors(ctx, runner.backend())};
    ggml_backend_buffer_clear(buffer.get(), 0);
    std::vector<int32_t> kept, evicted;
    for (int64_t h = 0; h < n_head_kv; ++h) {
        for (int32_t c = 0; c < n_kv; ++c) {
            (c % (n_kv / n_keep) == 0 ? kept : evicted).push_back(c);
        }
    }
    std::vector<int32_t> target(n_keep);
    std::iota(target.begin(), target.end(), 0);
    std::vector<token_kind> kind(n_kv, token_kind::image);
    std::fill_n(kind.begin(), n_kv / 2, token_kind::text);
    for (const char * name : {"h2o", "avg_merge", "weighted_merge", "pivot_merge"}) {
        method m = resolve({.method = name});
        compress_layer(runner, kv, m, {kept, evicted, target, kind}, /*on_device =*/true);
        m.merge_within_modality = true;
        m.merge_keys = false;
        compress_layer(runner, kv, m, {kept, evicted, target, kind}, /*on_device =*/true);
    }
}

} // namespace

void probe_device_graphs(const probe_layer & layer, const op_gate & gate) {
    const ggml_backend_ptr cpu{ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, nullptr)};
    for (const size_t bytes : compute_bytes) {
        graph_runner runner(cpu.get(), bytes, gate);
        for (const auto probe : {probe_scores, probe_merges}) {
            const ggml_context_ptr ctx{
                ggml_init({32 * ggml_tensor_overhead(), nullptr, /*no_alloc =*/true})};
            probe(runner, ctx.get(), layer);
        }
    }
}

} // namespace lookm
