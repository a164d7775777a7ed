#include "lookm/cache/sequence_bytes.h"

#include "lookm/core/state_bytes.h"
#include "lookm/graph/kv_rows.h"

#include "llama.h"

#include <algorithm>
#include <cmath>
#include <future>
#include <utility>

namespace lookm {

namespace {

// Cells that are converted at a time: transposed values are read and written in lines of this many
constexpr int64_t n_block = 32;

// K or V of one layer: [n_cells, n_values], or [n_values, n_cells] if transposed.
struct values_form {
    ggml_type type;
    int32_t rotation;
    bool transposed;

    bool operator==(const values_form &) const = default;
    size_t bytes(int64_t n_values) const { return ggml_row_size(type, n_values); }
};

struct values {
    values_form form;
    int64_t n_values;
    uint8_t * data;
};

// Bytes of one value
double size_of(ggml_type type) {
    return static_cast<double>(ggml_type_size(type)) / static_cast<double>(ggml_blck_size(type));
}

// Applies the orthonormal Walsh-Hadamard transform, in natural order, to each group of n values. It
// is its own inverse.
void rotate(float * x, int64_t n_values, int32_t n) {
    const float scale = 1.0f / std::sqrt(static_cast<float>(n));
    for (float * block = x; n > 0 && block < x + n_values; block += n) {
        for (int32_t half = 1; half < n; half *= 2) {
            for (int32_t i = 0; i < n; i += 2 * half) {
                for (int32_t j = i; j < i + half; ++j) {
                    const float a = block[j], b = block[j + half];
                    block[j] = a + b;
                    block[j + half] = a - b;
                }
            }
        }
        for (int32_t j = 0; j < n; ++j) {
            block[j] *= scale;
        }
    }
}

// Reads the rows of cells [first, first + n) as f32.
void read_cells(const values & in, int64_t first, int64_t n, int64_t n_cells, float * rows) {
    if (!in.form.transposed) {
        to_floats(in.form.type, in.data + first * in.form.bytes(in.n_values), rows,
                  n * in.n_values);
        return;
    }
    const size_t size = ggml_type_size(in.form.type);
    float line[n_block];
    for (int64_t j = 0; j < in.n_values; ++j) {
        to_floats(in.form.type, in.data + (j * n_cells + first) * size, line, n);
        for (int64_t c = 0; c < n; ++c) {
            rows[c * in.n_values + j] = line[c];
        }
    }
}

void write_cells(const values & out, int64_t first, int64_t n, int64_t n_cells,
                 const float * rows) {
    if (!out.form.transposed) {
        from_floats(out.form.type, rows, out.data + first * out.form.bytes(out.n_values),
                    n * out.n_values);
        return;
    }
    const size_t size = ggml_type_size(out.form.type);
    float line[n_block];
    for (int64_t j = 0; j < out.n_values; ++j) {
        for (int64_t c = 0; c < n; ++c) {
            line[c] = rows[c * out.n_values + j];
        }
        from_floats(out.form.type, line, out.data + (j * n_cells + first) * size, n);
    }
}

void convert_cells(const values & in, const values & out, int64_t n_cells, int64_t first,
                   int64_t end) {
    std::vector<float> rows(n_block * in.n_values);
    for (; first < end; first += n_block) {
        const int64_t n = std::min(n_block, end - first);
        read_cells(in, first, n, n_cells, rows.data());
        if (in.form.rotation != out.form.rotation) {
            rotate(rows.data(), n * in.n_values, in.form.rotation);
            rotate(rows.data(), n * in.n_values, out.form.rotation);
        }
        write_cells(out, first, n, n_cells, rows.data());
    }
}

class converter {
  public:
    converter(std::span<const uint8_t> sequence, int32_t n_threads)
        : in_(sequence), n_threads_(n_threads) {}

    std::vector<uint8_t> operator()(std::span<const cache_form> from,
                                    std::span<const cache_form> to) {
        double larger = 0.0;
        for (size_t i = 0; i < from.size(); ++i) {
            larger = std::max({larger, size_of(to[i].type_k) / size_of(from[i].type_k),
                               size_of(to[i].type_v) / size_of(from[i].type_v)});
        }
        out_.out.reserve(static_cast<size_t>(larger * static_cast<double>(in_.n_left())) +
                         in_.n_left() / 16);
        copy<uint32_t>(); // magic number
        copy<llama_seq_id>();
        for (size_t i = 0; i < from.size(); ++i) {
            const auto n_streams = copy<uint32_t>();
            for (uint32_t s = 0; s < n_streams; ++s) {
                convert_stream(from[i], to[i]);
            }
        }
        copy_bytes(in_.n_left());
        return std::move(out_.out);
    }

  private:
    template <class T>
    T copy() {
        const T value = in_.get<T>();
        out_.put(value);
        return value;
    }
    void copy_bytes(size_t n) {
        const uint8_t * from = in_.bytes(n);
        std::copy(from, from + n, out_.bytes(n));
    }
    template <class T>
    void expect(T value) {
        if (in_.get<T>() != value) {
            state_reader::fail();
        }
    }

    void convert_stream(const cache_form & from, const cache_form & to) {
        const int64_t n_cells = copy<uint32_t>();
        if (n_cells == 0) {
            return;
        }
        for (int64_t i = 0; i < n_cells; ++i) {
            copy<llama_pos>();
            const size_t n_sequences = copy<uint32_t>();
            copy_bytes(from.cell_bytes + n_sequences * sizeof(llama_seq_id));
        }
        expect<uint32_t>(from.v_transposed);
        out_.put<uint32_t>(to.v_transposed);
        const auto n_layers = copy<uint32_t>();
        for (uint32_t i = 0; i < n_layers; ++i) {
            convert_layer({from.type_k, from.rotation_k, false}, {to.type_k, to.rotation_k, false},
                          n_cells);
        }
        for (uint32_t i = 0; i < n_layers; ++i) {
            convert_layer({from.type_v, from.rotation_v, from.v_transposed},
                          {to.type_v, to.rotation_v, to.v_transposed}, n_cells);
        }
    }

    int64_t read_head(const values_form & form) {
        expect<int32_t>(form.type);
        if (form.transposed) {
            expect<uint32_t>(static_cast<uint32_t>(ggml_type_size(form.type)));
            return in_.get<uint32_t>();
        }
        return static_cast<int64_t>(in_.get<uint64_t>() / ggml_type_size(form.type)) *
               ggml_blck_size(form.type);
    }

    void write_head(const values_form & form, int64_t n_values) {
        out_.put<int32_t>(form.type);
        if (form.transposed) {
            out_.put<uint32_t>(static_cast<uint32_t>(ggml_type_size(form.type)));
            out_.put<uint32_t>(static_cast<uint32_t>(n_values));
        } else {
            out_.put<uint64_t>(form.bytes(n_values));
        }
    }

    void convert_layer(const values_form & from, const values_form & to, int64_t n_cells) {
        const int64_t n_values = read_head(from);
        if (n_values % ggml_blck_size(to.type) != 0) {
            state_reader::fail();
        }
        write_head(to, n_values);
        if (from == to) {
            copy_bytes(from.bytes(n_values) * n_cells);
            return;
        }
        // only read; the struct is used for input and output, hence the const_cast
        const values in = {from, n_values,
                           const_cast<uint8_t *>(in_.bytes(from.bytes(n_values) * n_cells))};
        const values out = {to, n_values, out_.bytes(to.bytes(n_values) * n_cells)};
        const int64_t n_each = (n_cells + n_threads_ - 1) / n_threads_;
        std::vector<std::future<void>> others;
        for (int64_t first = n_each; first < n_cells; first += n_each) {
            others.push_back(std::async(std::launch::async, convert_cells, in, out, n_cells, first,
                                        std::min(first + n_each, n_cells)));
        }
        convert_cells(in, out, n_cells, 0, std::min(n_each, n_cells));
        for (std::future<void> & other : others) {
            other.get();
        }
    }

    state_reader in_;
    state_writer out_;
    int64_t n_threads_;
};

} // namespace

std::vector<uint8_t> convert_sequence(std::span<const uint8_t> sequence,
                                      std::span<const cache_form> from,
                                      std::span<const cache_form> to, int32_t n_threads) {
    return converter(sequence, n_threads)(from, to);
}

sequence_rest::sequence_rest(std::vector<cache_form> here, std::optional<ggml_type> type,
                             int32_t n_threads)
    : here_(std::move(here)), at_rest_(here_), n_threads_(n_threads) {
    for (cache_form & form : at_rest_) {
        if (type && (form.type_k != *type || form.type_v != *type)) {
            form.type_k = form.type_v = *type;
            // quantized in groups of the transform's size, as every type of a cache is in blocks
            form.rotation_k = form.rotation_v =
                ggml_is_quantized(*type) ? static_cast<int32_t>(ggml_blck_size(*type)) : 0;
            form.v_transposed = false;
        }
    }
}

double sequence_rest::share() const {
    double most = here_.empty() ? 1.0 : 0.0;
    for (size_t i = 0; i < here_.size(); ++i) {
        most = std::max({most, size_of(at_rest_[i].type_k) / size_of(here_[i].type_k),
                         size_of(at_rest_[i].type_v) / size_of(here_[i].type_v)});
    }
    return most;
}

std::vector<uint8_t> sequence_rest::put(std::vector<uint8_t> sequence) const {
    return converts() ? convert_sequence(sequence, here_, at_rest_, n_threads_) : sequence;
}

std::span<const uint8_t> sequence_rest::take(std::span<const uint8_t> at_rest,
                                             std::vector<uint8_t> & storage) const {
    if (!converts()) {
        return at_rest;
    }
    storage = convert_sequence(at_rest, at_rest_, here_, n_threads_);
    return storage;
}

} // namespace lookm
