#pragma once

#include "lookm/graph/graph_runner.h"

#include <cstdint>

namespace lookm {

// The K or the V storage of one layer (one stream of it) in llama.cpp's layout, in ggml order:
//   rows        [n_head_kv * head_dim, n_cells]: the heads of a cell next to each other
//   transposed  [n_cells, head_dim * n_head_kv]: V without flash attention, never quantized
struct kv_rows {
    ggml_tensor * storage; // owns its data; contiguous
    size_t offset;         // bytes to the stream's first element
    int64_t n_cells;
    int64_t n_head_kv;
    int64_t head_dim;
    bool transposed;
};

// K and V of layer il.
struct kv_layer {
    int32_t il;
    kv_rows k;
    kv_rows v;
};

// Heads [h0, h0 + n_h) as a tensor [head_dim, n_cells, n_h] with contiguous rows: a view, or a node
// that copies if the storage is transposed.
ggml_tensor * head_rows(ggml_context * ctx, const kv_rows & rows, int64_t h0, int64_t n_h);

// Adds a node that writes values [head_dim, n_rows, n_h] f32 to cells [n_rows] i64 of heads
// [h0, h0 + n_h). For a transposed storage, cells is [n_rows, head_dim] with the index of each
// element in a head's storage: e * n_cells + cell.
void put_rows(ggml_context * ctx, ggml_cgraph * graph, const kv_rows & rows, int64_t h0,
              ggml_tensor * values, ggml_tensor * cells);

// Prefetches memory that is read soon: the rows of a head are too far apart for the processor to
// predict.
void prefetch(const char * data, size_t n_bytes);

// Converts n elements of a row (whole blocks of a quantized type) to f32 and back, with ggml's
// converters for the type.
void to_floats(ggml_type type, const void * in, float * out, int64_t n);
void from_floats(ggml_type type, const float * in, void * out, int64_t n);

// One row of head_dim elements, for a storage in host memory; row_blocks.h has the same for many
// rows. element(): address of the row's first element.
char * element(const kv_rows & rows, int64_t head, int64_t cell);
void read_row(const kv_rows & rows, int64_t head, int64_t cell, float * out);
void write_row(const kv_rows & rows, int64_t head, int64_t cell, const float * in);

} // namespace lookm
