#pragma once

#include "lookm/graph/graph_runner.h"

#include <cstdint>

namespace lookm {

// The K or the V storage of one layer (one stream of it), as llama.cpp lays it out:
//   rows        [n_head_kv * head_dim, n_cells]: a cell's heads side by side
//   transposed  [n_cells, head_dim * n_head_kv]: V without flash attention, never a quantized type
struct kv_rows {
    ggml_tensor * storage; // owns its data; contiguous
    size_t offset;         // bytes to the stream's first element
    int64_t n_cells;
    int64_t n_head_kv;
    int64_t head_dim;
    bool transposed;
};

// Both sides of one layer.
struct kv_layer {
    int32_t il;
    kv_rows k;
    kv_rows v;
};

// Heads [h0, h0 + n_h) as [head_dim, n_cells, n_h], rows contiguous. A transposed storage is copied
// by the graph.
ggml_tensor * head_rows(ggml_context * ctx, const kv_rows & rows, int64_t h0, int64_t n_h);

// Node that writes values [head_dim, n_rows, n_h] f32 into cells [n_rows] i64 of heads [h0, h0 +
// n_h). For transposed rows, cells is [head_dim * n_rows] as transposed_index lists it.
void put_rows(ggml_context * ctx, ggml_cgraph * graph, const kv_rows & rows, int64_t h0,
              ggml_tensor * values, ggml_tensor * cells);

// Asks for memory that is read soon: a head's rows lie too far apart for a processor to see them
// coming.
void prefetch(const char * data, size_t n_bytes);

// n elements of a row (whole blocks of a quantized type) to f32 and back, by ggml's own converters
// for the type.
void to_floats(ggml_type type, const void * in, float * out, int64_t n);
void from_floats(ggml_type type, const float * in, void * out, int64_t n);

// One row on the host: storage must be host memory. element: where its first one lies. See
// row_blocks for many rows.
char * element(const kv_rows & rows, int64_t head, int64_t cell);
void read_row(const kv_rows & rows, int64_t head, int64_t cell, float * out);
void write_row(const kv_rows & rows, int64_t head, int64_t cell, const float * in);

} // namespace lookm
