#include "lookm/graph/single_layer.h"

#include "lookm/core/select.h"
#include "lookm/graph/compress_graph.h"
#include "lookm/graph/score_forms.h"

#include <cmath>
#include <cstring>
#include <numeric>
#include <stdexcept>

namespace lookm {

namespace {

struct cpu {
    ggml_backend_ptr backend{ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, nullptr)};
    graph_runner runner{backend.get()};
};

// The tensors of one call, all in one buffer.
struct workspace {
    ggml_context_ptr ctx{ggml_init({8 * ggml_tensor_overhead(), nullptr, /*no_alloc =*/true})};
    ggml_backend_buffer_ptr buffer;

    void alloc(const cpu & on) {
        buffer.reset(ggml_backend_alloc_ctx_tensors(ctx.get(), on.backend.get()));
        if (!buffer) {
            throw std::runtime_error("arrays: no memory for one layer");
        }
    }
};

// Copies [n_head_kv, n_kv, row] to the cache's layout [n_kv, n_head_kv, row], or back; row in bytes
void interleave(const uint8_t * heads, uint8_t * cells, int64_t n_head, int64_t n_kv, size_t row,
                bool back) {
    for (int64_t h = 0; h < n_head; ++h) {
        for (int64_t c = 0; c < n_kv; ++c) {
            const size_t at_head = (h * n_kv + c) * row;
            const size_t at_cell = (c * n_head + h) * row;
            if (back) {
                std::memcpy(const_cast<uint8_t *>(heads) + at_head, cells + at_cell, row);
            } else {
                std::memcpy(cells + at_cell, heads + at_head, row);
            }
        }
    }
}

} // namespace

std::vector<float> score_arrays(const float * q, const void * k, ggml_type type,
                                const score_shape & s, float scale, bool on_device) {
    cpu on;
    workspace w;
    ggml_tensor * tq =
        ggml_new_tensor_3d(w.ctx.get(), GGML_TYPE_F32, s.head_dim, s.n_tokens, s.n_head);
    ggml_tensor * tk = ggml_new_tensor_3d(w.ctx.get(), type, s.head_dim, s.n_kv, s.n_head_kv);
    ggml_tensor * mask = ggml_new_tensor_2d(w.ctx.get(), GGML_TYPE_F32, s.n_kv, s.n_tokens);
    ggml_tensor * sum = ggml_new_tensor_2d(w.ctx.get(), GGML_TYPE_F32, s.n_kv, s.n_head_kv);
    w.alloc(on);
    std::vector<float> hidden(s.n_kv * s.n_tokens, 0.0f);
    for (int64_t i = 0; i < s.n_tokens; ++i) {
        for (int64_t j = s.n_past + i + 1; j < s.n_kv; ++j) {
            hidden[i * s.n_kv + j] = -INFINITY;
        }
    }
    ggml_backend_tensor_set(tq, q, 0, ggml_nbytes(tq));
    ggml_backend_tensor_set(tk, k, 0, ggml_nbytes(tk));
    ggml_backend_tensor_set(mask, hidden.data(), 0, ggml_nbytes(mask));
    std::vector<float> scores(s.n_kv * s.n_head_kv, 0.0f);
    ggml_backend_tensor_set(sum, scores.data(), 0, ggml_nbytes(sum));
    const attention attn = {tq, tk, mask, nullptr, scale};
    on_device ? add_scores_on_device(on.runner, attn, {sum})
              : add_scores_on_host(on.runner, attn, {sum});
    ggml_backend_tensor_get(sum, scores.data(), 0, ggml_nbytes(sum));
    return scores;
}

std::vector<int32_t> select_arrays(const choice & c, const budget & b,
                                   std::span<const token_kind> kind) {
    std::vector<int32_t> kept(c.n_head_kv * b.n_keep());
    const int32_t first = first_query(c.method, b, kind);
    const ranking ranks = rank(c.method, b, c.sums, {kind, kind}, first, c.n_head_kv, c.layer);
    select(c.method, b, ranks, kind, kept);
    return kept;
}

compressed_arrays compress_arrays(const layer_arrays & a, const choice & c,
                                  std::span<const token_kind> kind, bool on_device) {
    const budget b = make_budget(c.method, c.ratios, kind);
    const size_t row_k = ggml_row_size(a.type, a.head_dim_k);
    const size_t row_v = ggml_row_size(a.type, a.head_dim_v);

    compressed_arrays out;
    out.n_keep = b.n_keep();
    out.kept = select_arrays(c, b, kind);
    out.merged_into.assign(a.n_head_kv * a.n_kv, -1);

    cpu on;
    workspace w;
    const auto storage = [&](int64_t head_dim) {
        return ggml_new_tensor_2d(w.ctx.get(), a.type, head_dim * a.n_head_kv, a.n_kv);
    };
    const kv_layer layer = {0,
                            {storage(a.head_dim_k), 0, a.n_kv, a.n_head_kv, a.head_dim_k, false},
                            {storage(a.head_dim_v), 0, a.n_kv, a.n_head_kv, a.head_dim_v, false}};
    w.alloc(on);
    auto * cells_k = static_cast<uint8_t *>(layer.k.storage->data);
    auto * cells_v = static_cast<uint8_t *>(layer.v.storage->data);
    interleave(static_cast<const uint8_t *>(a.k), cells_k, a.n_head_kv, a.n_kv, row_k, false);
    interleave(static_cast<const uint8_t *>(a.v), cells_v, a.n_head_kv, a.n_kv, row_v, false);

    if (b.evicts()) {
        const int64_t n_evict = a.n_kv - out.n_keep;
        std::vector<int32_t> evicted(a.n_head_kv * n_evict);
        for (int64_t h = 0; h < a.n_head_kv; ++h) {
            complement({out.kept.data() + h * out.n_keep, static_cast<size_t>(out.n_keep)},
                       {evicted.data() + h * n_evict, static_cast<size_t>(n_evict)});
        }
        std::vector<int32_t> target(out.n_keep);
        std::iota(target.begin(), target.end(), 0);
        const matches found = compress_layer(on.runner, layer, c.method,
                                             {out.kept, evicted, target, kind}, on_device);
        for (size_t i = 0; i < found.pivot.size(); ++i) {
            const size_t h = i / n_evict;
            if (found.pivot[i] >= 0) {
                out.merged_into[h * a.n_kv + evicted[i]] =
                    out.kept[h * out.n_keep + found.pivot[i]];
            }
        }
    }
    out.k.resize(a.n_head_kv * out.n_keep * row_k);
    out.v.resize(a.n_head_kv * out.n_keep * row_v);
    interleave(out.k.data(), cells_k, a.n_head_kv, out.n_keep, row_k, true);
    interleave(out.v.data(), cells_v, a.n_head_kv, out.n_keep, row_v, true);
    return out;
}

} // namespace lookm
