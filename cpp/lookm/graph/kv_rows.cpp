#include "lookm/graph/kv_rows.h"

#include "ggml-cpu.h"

#include <cassert>
#include <cstring>

namespace lookm {

char * element(const kv_rows & rows, int64_t head, int64_t cell) {
    char * base = static_cast<char *>(rows.storage->data) + rows.offset;
    const ggml_type t = rows.storage->type;
    const size_t stride = ggml_row_size(t, rows.head_dim);
    if (rows.transposed) {
        return base + (head * rows.head_dim * rows.n_cells + cell) * ggml_type_size(t);
    }
    return base + cell * rows.n_head_kv * stride + head * stride;
}

ggml_tensor * head_rows(ggml_context * ctx, const kv_rows & rows, int64_t h0, int64_t n_h) {
    ggml_tensor * storage = as_leaf(ctx, rows.storage);
    const ggml_type t = storage->type;
    if (rows.transposed) {
        const size_t line = rows.n_cells * ggml_type_size(t);
        ggml_tensor * lines =
            ggml_view_3d(ctx, storage, rows.n_cells, rows.head_dim, n_h, line, line * rows.head_dim,
                         rows.offset + h0 * line * rows.head_dim);
        return ggml_cont(ctx, ggml_transpose(ctx, lines));
    }
    const size_t head = ggml_row_size(t, rows.head_dim);
    return ggml_view_3d(ctx, storage, rows.head_dim, rows.n_cells, n_h, rows.n_head_kv * head, head,
                        rows.offset + h0 * head);
}

void put_rows(ggml_context * ctx, ggml_cgraph * graph, const kv_rows & rows, int64_t h0,
              ggml_tensor * values, ggml_tensor * cells) {
    ggml_tensor * storage = as_leaf(ctx, rows.storage);
    const ggml_type t = storage->type;
    const int64_t n_rows = values->ne[1];
    const int64_t n_h = values->ne[2];
    for (int64_t h = 0; h < n_h; ++h) {
        ggml_tensor * value =
            ggml_view_2d(ctx, values, rows.head_dim, n_rows, values->nb[1], h * values->nb[2]);
        ggml_tensor * dst;
        if (rows.transposed) { // each element is a row of the view
            dst = ggml_view_2d(ctx, storage, 1, rows.n_cells * rows.head_dim, ggml_type_size(t),
                               rows.offset +
                                   (h0 + h) * rows.head_dim * rows.n_cells * ggml_type_size(t));
            value = ggml_reshape_2d(ctx, ggml_cont(ctx, value), 1, rows.head_dim * n_rows);
        } else {
            const size_t head = ggml_row_size(t, rows.head_dim);
            dst = ggml_view_2d(ctx, storage, rows.head_dim, rows.n_cells, rows.n_head_kv * head,
                               rows.offset + (h0 + h) * head);
        }
        ggml_build_forward_expand(graph, ggml_set_rows(ctx, dst, value, cells));
    }
}

void prefetch(const char * data, size_t n_bytes) {
#if defined(__GNUC__)
    for (size_t i = 0; i < n_bytes; i += 64) {
        __builtin_prefetch(data + i);
    }
#else
    (void) data, (void) n_bytes;
#endif
}

void to_floats(ggml_type type, const void * in, float * out, int64_t n) {
    switch (type) {
        case GGML_TYPE_F32:
            std::memcpy(out, in, n * sizeof(float));
            break;
        // the CPU backend's converters are vectorised, those of the type traits are not
        case GGML_TYPE_F16:
            ggml_cpu_fp16_to_fp32(static_cast<const ggml_fp16_t *>(in), out, n);
            break;
        case GGML_TYPE_BF16:
            ggml_cpu_bf16_to_fp32(static_cast<const ggml_bf16_t *>(in), out, n);
            break;
        default:
            ggml_get_type_traits(type)->to_float(in, out, n);
    }
}

void from_floats(ggml_type type, const float * in, void * out, int64_t n) {
    switch (type) {
        case GGML_TYPE_F32:
            std::memcpy(out, in, n * sizeof(float));
            break;
        case GGML_TYPE_F16:
            ggml_cpu_fp32_to_fp16(in, static_cast<ggml_fp16_t *>(out), n);
            break;
        default:
            ggml_get_type_traits(type)->from_float_ref(in, out, n);
    }
}

void read_row(const kv_rows & rows, int64_t head, int64_t cell, float * out) {
    const ggml_type t = rows.storage->type;
    const char * src = element(rows, head, cell);
    if (!rows.transposed) {
        to_floats(t, src, out, rows.head_dim);
        return;
    }
    const size_t line = rows.n_cells * ggml_type_size(t);
    for (int64_t e = 0; e < rows.head_dim; ++e) {
        to_floats(t, src + e * line, out + e, 1);
    }
}

void write_row(const kv_rows & rows, int64_t head, int64_t cell, const float * in) {
    const ggml_type t = rows.storage->type;
    char * dst = element(rows, head, cell);
    if (!rows.transposed) {
        from_floats(t, in, dst, rows.head_dim);
        return;
    }
    const size_t line = rows.n_cells * ggml_type_size(t);
    for (int64_t e = 0; e < rows.head_dim; ++e) {
        from_floats(t, in + e, dst + e * line, 1);
    }
}

} // namespace lookm
