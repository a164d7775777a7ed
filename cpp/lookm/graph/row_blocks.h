#pragma once

#include "lookm/graph/kv_rows.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace lookm {

// Reads and writes many rows of one head in host memory, as f32. In the cache, the rows (or, if
// transposed, the elements of a row) are far apart, so that reading them one by one would wait for
// memory each time. Ascending cells are the fast case.

// Reads the rows of cells to out [cells.size(), head_dim]; not for a transposed storage. Prefetches
// all rows before it converts the first.
void read_rows(const kv_rows & rows, int64_t head, std::span<const int32_t> cells, float * out);

// Writes values [cells.size(), head_dim] to cells.
void write_rows(const kv_rows & rows, int64_t head, std::span<const int32_t> cells,
                const float * values);

// Reads the rows of a list of cells one after the other, for any storage.
class row_reader {
  public:
    // cells must outlive the reader
    row_reader(const kv_rows & rows, int64_t head, std::span<const int32_t> cells);

    // The row [head_dim] of cells[i], valid until the next call; i must not decrease.
    const float * at(size_t i);

  private:
    void load(size_t i);
    void load_transposed(std::span<const int32_t> cells);

    const kv_rows & rows_;
    int64_t head_;
    std::span<const int32_t> cells_;
    std::vector<float> block_; // [end_ - begin_, head_dim]
    size_t begin_ = 0, end_ = 0;
};

} // namespace lookm
