#pragma once

#include "lookm/graph/graph_runner.h"

#include <cstdint>

namespace lookm {

// Graph inputs that are filled from host memory, with one row for each KV head, and views of tiles
// of them.

inline ggml_tensor * graph_input(ggml_context * ctx, ggml_type type, int64_t ne0, int64_t ne1) {
    ggml_tensor * t = ggml_new_tensor_2d(ctx, type, ne0, ne1);
    ggml_set_input(t);
    return t;
}

inline void set_graph_input(ggml_tensor * t, const void * data) {
    if (t && t->buffer) { // an input that no node reads has no buffer
        ggml_backend_tensor_set(t, data, 0, ggml_nbytes(t));
    }
}

// Columns [i0, i0 + n_i) of rows [h0, h0 + n_h), as [n_i, n_h] and as [1, n_i, n_h].
inline ggml_tensor * columns(ggml_context * ctx, ggml_tensor * t, int64_t i0, int64_t n_i,
                             int64_t h0, int64_t n_h) {
    return ggml_view_2d(ctx, t, n_i, n_h, t->nb[1], i0 * t->nb[0] + h0 * t->nb[1]);
}
inline ggml_tensor * upright(ggml_context * ctx, ggml_tensor * t, int64_t i0, int64_t n_i,
                             int64_t h0, int64_t n_h) {
    return ggml_view_3d(ctx, t, 1, n_i, n_h, t->nb[0], t->nb[1], i0 * t->nb[0] + h0 * t->nb[1]);
}

} // namespace lookm
