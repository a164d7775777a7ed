#include "lookm/graph/row_blocks.h"

#include <algorithm>

namespace lookm {

namespace {

// Neighbouring cells of a transposed storage share a cache line, so they are read together. A block
// fits into the L1 cache.
constexpr int64_t n_cells_at_once = 64;
constexpr size_t n_rows_at_once = 16;

const char * line_of(const kv_rows & rows, int64_t head, int64_t e, int64_t cell) {
    return element(rows, head, cell) + e * rows.n_cells * ggml_type_size(rows.storage->type);
}

} // namespace

void read_rows(const kv_rows & rows, int64_t head, std::span<const int32_t> cells, float * out) {
    const size_t n_bytes = ggml_row_size(rows.storage->type, rows.head_dim);
    for (const int32_t cell : cells) {
        prefetch(element(rows, head, cell), n_bytes);
    }
    for (const int32_t cell : cells) {
        to_floats(rows.storage->type, element(rows, head, cell), out, rows.head_dim);
        out += rows.head_dim;
    }
}

void write_rows(const kv_rows & rows, int64_t head, std::span<const int32_t> cells,
                const float * values) {
    const int64_t d = rows.head_dim;
    if (!rows.transposed) {
        for (size_t i = 0; i < cells.size(); ++i) {
            write_row(rows, head, cells[i], values + i * d);
        }
        return;
    }
    const ggml_type type = rows.storage->type;
    float line[n_cells_at_once];
    for (size_t i0 = 0; i0 < cells.size();) {
        size_t n = 1; // number of consecutive cells
        while (i0 + n < cells.size() && n < n_cells_at_once &&
               cells[i0 + n] == cells[i0] + static_cast<int32_t>(n)) {
            ++n;
        }
        for (int64_t e = 0; e < d; ++e) {
            for (size_t i = 0; i < n; ++i) {
                line[i] = values[(i0 + i) * d + e];
            }
            from_floats(type, line, const_cast<char *>(line_of(rows, head, e, cells[i0])),
                        static_cast<int64_t>(n));
        }
        i0 += n;
    }
}

row_reader::row_reader(const kv_rows & rows, int64_t head, std::span<const int32_t> cells)
    : rows_(rows), head_(head), cells_(cells) {}

const float * row_reader::at(size_t i) {
    if (i < begin_ || i >= end_) {
        load(i);
    }
    return block_.data() + (i - begin_) * rows_.head_dim;
}

void row_reader::load(size_t i) {
    begin_ = i;
    end_ = i + 1;
    if (rows_.transposed) {
        while (end_ < cells_.size() &&
               cells_[end_] / n_cells_at_once == cells_[i] / n_cells_at_once) {
            ++end_;
        }
    } else {
        end_ = std::min(i + n_rows_at_once, cells_.size());
    }
    block_.resize((end_ - begin_) * rows_.head_dim);
    const std::span<const int32_t> cells = cells_.subspan(begin_, end_ - begin_);
    if (rows_.transposed) {
        load_transposed(cells);
    } else {
        read_rows(rows_, head_, cells, block_.data());
    }
}

void row_reader::load_transposed(std::span<const int32_t> cells) {
    const int64_t d = rows_.head_dim;
    const int64_t first = cells[0] / n_cells_at_once * n_cells_at_once;
    const int64_t n = std::min(n_cells_at_once, rows_.n_cells - first);
    float line[n_cells_at_once];
    for (int64_t e = 0; e < d; ++e) {
        to_floats(rows_.storage->type, line_of(rows_, head_, e, first), line, n);
        for (size_t i = 0; i < cells.size(); ++i) {
            block_[i * d + e] = line[cells[i] - first];
        }
    }
}

} // namespace lookm
