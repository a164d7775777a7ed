#include "lookm/cache/sequence_part.h"

#include "lookm/core/state_bytes.h"
#include "lookm/graph/kv_rows.h"

#include <algorithm>
#include <cstring>

namespace lookm {

namespace {

// Where the parts of a saved sequence are in its bytes.
struct layout {
    struct rows {
        size_t at;
        int64_t n_values;
        bool transposed; // [n_values, n_cells]
    };
    size_t count_at = 0; // of the number of cells
    std::vector<llama_pos> pos;
    std::vector<size_t> cell_at; // of each cell's position and sequences; one more for their end
    std::vector<rows> keys, values;

    int64_t n_cells() const { return static_cast<int64_t>(pos.size()); }
};

// Reads a layout, and says at which byte it is.
class layout_reader {
  public:
    layout_reader(std::span<const uint8_t> sequence, const cache_form & form)
        : in_(sequence), size_(sequence.size()), form_(form) {}

    layout read() {
        in_.get<uint32_t>(); // magic number
        in_.get<llama_seq_id>();
        const auto n_streams = in_.get<uint32_t>();
        for (uint32_t s = 0; s < n_streams; ++s) {
            const size_t count_at = at();
            if (const auto n_cells = in_.get<uint32_t>(); n_cells > 0) {
                if (out_.n_cells() > 0) { // a sequence is in one stream
                    state_reader::fail();
                }
                out_.count_at = count_at;
                read_stream(n_cells);
            }
        }
        return std::move(out_);
    }

  private:
    size_t at() const { return size_ - in_.n_left(); }

    void read_stream(uint32_t n_cells) {
        for (uint32_t i = 0; i < n_cells; ++i) {
            out_.cell_at.push_back(at());
            out_.pos.push_back(in_.get<llama_pos>());
            const size_t n_sequences = in_.get<uint32_t>();
            in_.bytes(form_.cell_bytes + n_sequences * sizeof(llama_seq_id));
        }
        out_.cell_at.push_back(at());
        if (in_.get<uint32_t>() != uint32_t(form_.v_transposed)) {
            state_reader::fail();
        }
        const auto n_layers = in_.get<uint32_t>();
        for (uint32_t i = 0; i < n_layers; ++i) {
            out_.keys.push_back(read_rows(form_.type_k, false));
        }
        for (uint32_t i = 0; i < n_layers; ++i) {
            out_.values.push_back(read_rows(form_.type_v, form_.v_transposed));
        }
    }

    layout::rows read_rows(ggml_type type, bool transposed) {
        if (in_.get<int32_t>() != type) {
            state_reader::fail();
        }
        layout::rows rows = {.at = 0, .n_values = 0, .transposed = transposed};
        if (transposed) {
            in_.get<uint32_t>(); // bytes of a value
            rows.n_values = in_.get<uint32_t>();
        } else {
            const auto row_bytes = in_.get<uint64_t>();
            rows.n_values =
                static_cast<int64_t>(row_bytes / ggml_type_size(type)) * ggml_blck_size(type);
        }
        rows.at = at();
        in_.bytes(ggml_row_size(type, rows.n_values) * out_.pos.size());
        return rows;
    }

    state_reader in_;
    size_t size_;
    const cache_form & form_;
    layout out_;
};

// Copies bytes of a sequence in their order, except for those that are left out.
class picker {
  public:
    explicit picker(std::span<const uint8_t> sequence) : in_(sequence) {}

    void up_to(size_t at) { copy(next_, at - next_); }
    void copy(size_t at, size_t n) {
        std::copy_n(in_.data() + at, n, out_.bytes(n));
        next_ = at + n;
    }
    void skip_to(size_t at) { next_ = at; }
    template <class T>
    void put(T value) {
        out_.put(value);
        next_ += sizeof(T);
    }
    void rows(const layout::rows & rows, ggml_type type, std::span<const size_t> cells,
              int64_t n_cells) {
        up_to(rows.at);
        const size_t size = rows.transposed ? ggml_type_size(type) //
                                            : ggml_row_size(type, rows.n_values);
        const int64_t n_lines = rows.transposed ? rows.n_values : 1;
        uint8_t * to = out_.bytes(size * cells.size() * n_lines);
        for (int64_t line = 0; line < n_lines; ++line) {
            for (const size_t cell : cells) {
                std::memcpy(to, in_.data() + rows.at + (line * n_cells + cell) * size, size);
                to += size;
            }
        }
        skip_to(rows.at + size * n_cells * n_lines);
    }
    std::vector<uint8_t> take() {
        up_to(in_.size());
        return std::move(out_.out);
    }

  private:
    std::span<const uint8_t> in_;
    size_t next_ = 0;
    state_writer out_;
};

} // namespace

std::vector<uint8_t> part_of_sequence(std::span<const uint8_t> sequence, const cache_form & form,
                                      llama_pos p0, llama_pos p1) {
    const layout all = layout_reader(sequence, form).read();
    std::vector<size_t> cells;
    for (size_t i = 0; i < all.pos.size(); ++i) {
        if (all.pos[i] >= p0 && all.pos[i] < p1) {
            cells.push_back(i);
        }
    }
    if (cells.empty()) {
        state_reader::fail();
    }
    picker out(sequence);
    out.up_to(all.count_at);
    out.put(static_cast<uint32_t>(cells.size()));
    for (const size_t i : cells) {
        out.copy(all.cell_at[i], all.cell_at[i + 1] - all.cell_at[i]);
    }
    out.skip_to(all.cell_at.back());
    for (const layout::rows & keys : all.keys) {
        out.rows(keys, form.type_k, cells, all.n_cells());
    }
    for (const layout::rows & values : all.values) {
        out.rows(values, form.type_v, cells, all.n_cells());
    }
    return out.take();
}

void change_keys(std::span<uint8_t> sequence, const cache_form & form, const key_change & change) {
    const layout all = layout_reader(sequence, form).read();
    std::vector<float> keys;
    for (size_t i = 0; i < all.keys.size(); ++i) {
        const layout::rows & rows = all.keys[i];
        uint8_t * const data = sequence.data() + rows.at;
        keys.resize(rows.n_values * all.n_cells());
        const auto n = static_cast<int64_t>(keys.size());
        to_floats(form.type_k, data, keys.data(), n);
        hadamard(keys, form.rotation_k);
        if (change(i, keys, all.n_cells())) {
            hadamard(keys, form.rotation_k);
            from_floats(form.type_k, keys.data(), data, n);
        }
    }
}

} // namespace lookm
