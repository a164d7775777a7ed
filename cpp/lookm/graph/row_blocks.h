#pragma once

#include "lookm/graph/kv_rows.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace lookm {

// Many rows of one head on the host, in f32. In the cache they lie far apart, or an element of each
// far from the next: one by one, each would be waited for. Cells that ascend are the fast case.

// rows [cells.size(), head_dim] of cells, not transposed: all are asked for before the first is
// converted.
void read_rows(const kv_rows & rows, int64_t head, std::span<const int32_t> cells, float * out);

// values [cells.size(), head_dim] into cells
void write_rows(const kv_rows & rows, int64_t head, std::span<const int32_t> cells,
                const float * values);

// The rows of a list of cells, one after the other.
class row_reader {
  public:
    row_reader(const kv_rows & rows, int64_t head,
               std::span<const int32_t> cells); // cells must outlive it

    const float * at(size_t i); // row of cells[i], until the next call; i ascending

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
