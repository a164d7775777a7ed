#include "score_module.h"

#include "lookm/graph/kv_rows.h"
#include "lookm/graph/score_forms.h"

#include "ggml-cpu.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <cmath>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace py = pybind11;
using namespace py::literals;

namespace {

using floats = py::array_t<float, py::array::c_style | py::array::forcecast>;

constexpr int64_t n_beyond = 5; // additional cells of the accumulators, which must stay unchanged

ggml_type parse_type(const std::string & name) {
    for (int t = 0; t < GGML_TYPE_COUNT; ++t) {
        if (name == ggml_type_name(static_cast<ggml_type>(t))) {
            return static_cast<ggml_type>(t);
        }
    }
    throw std::invalid_argument("unknown type " + name);
}

// A CPU backend and the tensors of one call in one buffer.
struct bench {
    ggml_backend_ptr backend{ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, nullptr)};
    lookm::graph_runner runner;
    ggml_context_ptr ctx{ggml_init({16 * ggml_tensor_overhead(), nullptr, /*no_alloc =*/true})};
    ggml_backend_buffer_ptr buffer;
    ggml_tensor *sum = nullptr, *squares = nullptr;

    explicit bench(size_t compute_bytes) : runner(backend.get(), compute_bytes) {}

    void make_sums(int64_t n_kv, int64_t n_head_kv, bool with_squares) {
        sum = ggml_new_tensor_2d(ctx.get(), GGML_TYPE_F32, n_kv + n_beyond, n_head_kv);
        squares = with_squares
                      ? ggml_new_tensor_2d(ctx.get(), GGML_TYPE_F32, n_kv + n_beyond, n_head_kv)
                      : nullptr;
    }
    void alloc() {
        buffer.reset(ggml_backend_alloc_ctx_tensors(ctx.get(), backend.get()));
        ggml_backend_buffer_clear(buffer.get(), 0);
    }
    // (sums [1 or 2, n_head_kv, n_kv + n_beyond], peak bytes)
    py::tuple result() const {
        py::array_t<float> out({squares ? int64_t(2) : int64_t(1), sum->ne[1], sum->ne[0]});
        std::memcpy(out.mutable_data(), sum->data, ggml_nbytes(sum));
        if (squares) {
            std::memcpy(out.mutable_data() + ggml_nelements(sum), squares->data,
                        ggml_nbytes(squares));
        }
        return py::make_tuple(out, runner.peak_bytes());
    }
};

// Writes rows [heads, n, d] in the cache's order [n, heads, d] and in the tensor's type
void put(ggml_tensor * t, const floats & rows) {
    const int64_t n_head = rows.shape(0), n = rows.shape(1), d = rows.shape(2);
    std::vector<float> cells(rows.size());
    for (int64_t h = 0; h < n_head; ++h) {
        for (int64_t i = 0; i < n; ++i) {
            std::memcpy(cells.data() + (i * n_head + h) * d, rows.data(h, i, 0), d * sizeof(float));
        }
    }
    ggml_quantize_chunk(t->type, cells.data(), t->data, 0, n, n_head * d, nullptr);
}

// Reads those rows back, rounded to the tensor's type
floats get(const ggml_tensor * t, int64_t n_head, int64_t n, int64_t d) {
    floats rows({n_head, n, d});
    std::vector<float> cells(n * n_head * d);
    lookm::to_floats(t->type, t->data, cells.data(), static_cast<int64_t>(cells.size()));
    for (int64_t h = 0; h < n_head; ++h) {
        for (int64_t i = 0; i < n; ++i) {
            std::memcpy(rows.mutable_data(h, i, 0), cells.data() + (i * n_head + h) * d,
                        d * sizeof(float));
        }
    }
    return rows;
}

// q as ggml rounds it for a product with rows of this type
floats rounded(const floats & q, ggml_type k_type) {
    const ggml_type type = ggml_get_type_traits_cpu(k_type)->vec_dot_type;
    floats out({q.shape(0), q.shape(1), q.shape(2)});
    std::vector<uint8_t> bytes(ggml_row_size(type, q.size()));
    const auto from_float = ggml_get_type_traits_cpu(type)->from_float;
    from_float ? from_float(q.data(), bytes.data(), q.size())
               : static_cast<void>(std::memcpy(bytes.data(), q.data(), bytes.size()));
    lookm::to_floats(type, bytes.data(), out.mutable_data(), q.size());
    return out;
}

void put_mask(ggml_tensor * t, const floats & mask) {
    if (t->type == GGML_TYPE_F16) {
        ggml_fp32_to_fp16_row(mask.data(), static_cast<ggml_fp16_t *>(t->data), mask.size());
    } else {
        std::memcpy(t->data, mask.data(), ggml_nbytes(t));
    }
}

// q [n_head, n_tokens, d], k [n_head_kv, n_kv, d], mask [n_tokens, n_kv]. Tensors have the layout
// of llama.cpp's attention nodes: permuted views of cells that hold all heads. Returns (sums, k
// rounded to its type, q as ggml's product rounds it, peak bytes).
py::tuple attention_sums(const floats & q, const floats & k, const std::string & type,
                         const floats & mask, const std::string & mask_type, float scale,
                         float softcap, const std::optional<floats> & sinks, bool on_device,
                         bool squares, size_t compute_bytes) {
    const int64_t n_head = q.shape(0), n_tokens = q.shape(1), d = q.shape(2),
                  n_head_kv = k.shape(0), n_kv = k.shape(1);
    bench b(compute_bytes);
    ggml_context * ctx = b.ctx.get();
    ggml_tensor * tq = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, d, n_head, n_tokens);
    ggml_tensor * tk = ggml_new_tensor_3d(ctx, parse_type(type), d, n_head_kv, n_kv);
    ggml_tensor * tm = ggml_new_tensor_2d(ctx, parse_type(mask_type), n_kv, n_tokens);
    ggml_tensor * ts = sinks ? ggml_new_tensor_1d(ctx, GGML_TYPE_F32, n_head) : nullptr;
    ggml_tensor * q_node = ggml_permute(ctx, tq, 0, 2, 1, 3);
    ggml_tensor * k_node = ggml_permute(ctx, tk, 0, 2, 1, 3);
    b.make_sums(n_kv, n_head_kv, squares);
    b.alloc();
    put(tq, q);
    put(tk, k);
    put_mask(tm, mask);
    if (ts) {
        std::memcpy(ts->data, sinks->data(), ggml_nbytes(ts));
    }
    const lookm::attention attn = {q_node, k_node, tm, ts, scale, 0.0f, softcap};
    const lookm::score_sums out = {b.sum, b.squares};
    on_device ? add_scores_on_device(b.runner, attn, out) : add_scores_on_host(b.runner, attn, out);
    const py::tuple found = b.result();
    return py::make_tuple(found[0], get(tk, n_head_kv, n_kv, d), rounded(q, tk->type), found[1]);
}

// probs [n_head, n_tokens, n_kv] as in llama.cpp's kq_soft_max; rows before first_row are left out,
// as the tap does
py::tuple probability_sums(const floats & probs, int64_t n_head_kv, int64_t first_row,
                           bool on_device, bool squares, size_t compute_bytes) {
    const int64_t n_head = probs.shape(0), n_tokens = probs.shape(1), n_kv = probs.shape(2);
    bench b(compute_bytes);
    ggml_tensor * t = ggml_new_tensor_3d(b.ctx.get(), GGML_TYPE_F32, n_kv, n_tokens, n_head);
    ggml_tensor * rows = ggml_view_3d(b.ctx.get(), t, n_kv, n_tokens - first_row, n_head, t->nb[1],
                                      t->nb[2], first_row * t->nb[1]);
    b.make_sums(n_kv, n_head_kv, squares);
    b.alloc();
    std::memcpy(t->data, probs.data(), ggml_nbytes(t));
    const lookm::score_sums out = {b.sum, b.squares};
    on_device ? add_scores_on_device(b.runner, rows, out) : add_scores_on_host(b.runner, rows, out);
    return b.result();
}

// The output [n_tokens, n_head, d_v] of ggml's attention on the CPU, with K and V as rounded to
// their types. Another node of the graph needs work_bytes of ggml's memory, so attention has them.
py::tuple attention_output(const floats & q, const floats & k, const floats & v,
                           const std::string & type_k, const std::string & type_v,
                           const floats & mask, float scale, float softcap, float max_bias,
                           const std::optional<floats> & sinks, int32_t n_threads,
                           int64_t work_bytes) {
    const int64_t n_head = q.shape(0), n_tokens = q.shape(1), d = q.shape(2),
                  n_head_kv = k.shape(0), n_kv = k.shape(1), d_v = v.shape(2);
    bench b(lookm::default_compute_bytes);
    ggml_context * ctx = b.ctx.get();
    ggml_tensor * tq = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, d, n_head, n_tokens);
    ggml_tensor * tk = ggml_new_tensor_3d(ctx, parse_type(type_k), d, n_head_kv, n_kv);
    ggml_tensor * tv = ggml_new_tensor_3d(ctx, parse_type(type_v), d_v, n_head_kv, n_kv);
    ggml_tensor * tm = ggml_new_tensor_2d(ctx, GGML_TYPE_F16, n_kv, n_tokens);
    ggml_tensor * ts = sinks ? ggml_new_tensor_1d(ctx, GGML_TYPE_F32, n_head) : nullptr;
    ggml_tensor * node = ggml_flash_attn_ext(
        ctx, ggml_permute(ctx, tq, 0, 2, 1, 3), ggml_permute(ctx, tk, 0, 2, 1, 3),
        ggml_permute(ctx, tv, 0, 2, 1, 3), tm, scale, max_bias, softcap);
    if (ts) {
        ggml_flash_attn_ext_add_sinks(node, ts);
    }
    // ggml quantizes the second matrix of this product
    const int64_t row = ggml_row_size(GGML_TYPE_Q8_0, 32);
    ggml_tensor * other =
        ggml_mul_mat(ctx, ggml_new_tensor_2d(ctx, GGML_TYPE_Q8_0, 32, 1),
                     ggml_new_tensor_2d(ctx, GGML_TYPE_F32, 32, work_bytes / row + 1));
    b.alloc();
    put(tq, q);
    put(tk, k);
    put(tv, v);
    put_mask(tm, mask);
    if (ts) {
        std::memcpy(ts->data, sinks->data(), ggml_nbytes(ts));
    }
    const ggml_context_ptr of_graph{ggml_init({ggml_graph_overhead(), nullptr, true})};
    ggml_cgraph * graph = ggml_new_graph(of_graph.get());
    ggml_build_forward_expand(graph, node);
    ggml_build_forward_expand(graph, other);
    ggml_backend_cpu_set_n_threads(b.backend.get(), n_threads);
    if (ggml_backend_graph_compute(b.backend.get(), graph) != GGML_STATUS_SUCCESS) {
        throw std::runtime_error("the graph failed");
    }
    py::array_t<float> out({n_tokens, n_head, d_v});
    std::memcpy(out.mutable_data(), node->data, ggml_nbytes(node));
    return py::make_tuple(out, get(tk, n_head_kv, n_kv, d), get(tv, n_head_kv, n_kv, d_v));
}

} // namespace

void bind_scores(py::module_ & m) {
    m.def("attention_sums", &attention_sums, "q"_a, "k"_a, py::kw_only(), "type"_a, "mask"_a,
          "mask_type"_a, "scale"_a, "softcap"_a, "sinks"_a, "on_device"_a, "squares"_a,
          "compute_bytes"_a = lookm::default_compute_bytes);
    m.def("attention_output", &attention_output, "q"_a, "k"_a, "v"_a, py::kw_only(), "type_k"_a,
          "type_v"_a, "mask"_a, "scale"_a, "softcap"_a = 0.0f, "max_bias"_a = 0.0f,
          "sinks"_a = std::nullopt, "n_threads"_a = 1, "work_bytes"_a = 0);
    m.def("probability_sums", &probability_sums, "probs"_a, "n_head_kv"_a, py::kw_only(),
          "first_row"_a, "on_device"_a, "squares"_a,
          "compute_bytes"_a = lookm::default_compute_bytes);
}
