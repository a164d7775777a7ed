#include "bindings.h"

#include "lookm/core/select.h"
#include "lookm/graph/single_layer.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

namespace py = pybind11;
using namespace py::literals;

namespace {

using float_array = py::array_t<float, py::array::c_style>;
using bool_array = py::array_t<bool, py::array::c_style>;
using index_array = py::array_t<int32_t>;

std::string shape_of(const py::array & a) {
    std::string text = "[";
    for (py::ssize_t i = 0; i < a.ndim(); ++i) {
        text += (i ? ", " : "") + std::to_string(a.shape(i));
    }
    return text + "]";
}

void expect(bool ok, const char * name, const py::array & a, const std::string & expected) {
    if (!ok) {
        throw std::invalid_argument(std::string(name) + ": shape " + shape_of(a) + ", expected " + expected);
    }
}

// Contiguous rows of a cache; f16 has no C++ type of its own.
struct rows_array {
    py::array array;
    ggml_type type;
};

rows_array rows(const char * name, const py::array & a) {
    const auto dtype = py::str(a.dtype()).cast<std::string>();
    if (dtype != "float32" && dtype != "float16") {
        throw std::invalid_argument(std::string(name) + ": dtype " + dtype + ", expected float32 or float16");
    }
    expect(a.ndim() == 3 && a.size() > 0, name, a, "[n_head_kv, n_kv, head_dim], none of them 0");
    py::array c = py::array::ensure(a, py::array::c_style);
    return {c, dtype == "float32" ? GGML_TYPE_F32 : GGML_TYPE_F16};
}

std::vector<lookm::token_kind> kinds(const bool_array & is_text) {
    std::vector<lookm::token_kind> kind;
    for (py::ssize_t i = 0; i < is_text.size(); ++i) {
        kind.push_back(is_text.data()[i] ? lookm::token_kind::text : lookm::token_kind::image);
    }
    return kind;
}

void check_scores(const float_array & scores, const bool_array & is_text) {
    expect(scores.ndim() == 2 && scores.size() > 0, "scores", scores, "[n_head_kv, n_kv], none of them 0");
    expect(is_text.ndim() == 1 && is_text.shape(0) == scores.shape(1), "is_text", is_text,
           "[n_kv] = [" + std::to_string(scores.shape(1)) + "]");
}

lookm::ratios checked(double important_ratio, double recent_ratio) {
    return lookm::split_ratio(1.0, important_ratio, recent_ratio);
}

template <class T>
py::array_t<T> array_of(const std::vector<T> & values, py::ssize_t n0, py::ssize_t n1) {
    py::array_t<T> out({n0, n1});
    std::copy(values.begin(), values.end(), out.mutable_data());
    return out;
}

py::array rows_of(const std::vector<uint8_t> & bytes, const py::array & like, int64_t n_keep) {
    py::array out(like.dtype(), {like.shape(0), static_cast<py::ssize_t>(n_keep), like.shape(2)});
    std::memcpy(out.mutable_data(), bytes.data(), bytes.size());
    return out;
}

float_array py_scores(const float_array & q, const py::array & k_in, float scale, int64_t n_past, bool on_device) {
    const rows_array k = rows("k", k_in);
    expect(q.ndim() == 3 && q.size() > 0, "q", q, "[n_head, n_tokens, head_dim], none of them 0");
    expect(q.shape(2) == k.array.shape(2) && q.shape(0) % k.array.shape(0) == 0, "q", q,
           "the head_dim and a multiple of the heads of k " + shape_of(k.array));
    if (!std::isfinite(scale)) {
        throw std::invalid_argument("scale: " + std::to_string(scale) + ", expected a finite number");
    }
    if (n_past < 0 || n_past + q.shape(1) > k.array.shape(1)) {
        throw std::invalid_argument("n_past: " + std::to_string(n_past) + " + " + std::to_string(q.shape(1)) +
                                    " queries exceed n_kv " + std::to_string(k.array.shape(1)));
    }
    const lookm::score_shape s = {q.shape(0), q.shape(1), q.shape(2), k.array.shape(0), k.array.shape(1), n_past};
    std::vector<float> sums;
    {
        const void * data = k.array.data();
        const py::gil_scoped_release nogil;
        sums = lookm::score_arrays(q.data(), data, k.type, s, scale, on_device);
    }
    return array_of(sums, s.n_head_kv, s.n_kv);
}

index_array py_select(const float_array & scores, const bool_array & is_text, const std::string & method,
                      double important_ratio, double recent_ratio, const std::string & text_overflow) {
    check_scores(scores, is_text);
    const lookm::method & m = lookm::find_method(method);
    const std::vector<lookm::token_kind> kind = kinds(is_text);
    const lookm::budget b =
        lookm::make_budget(m, checked(important_ratio, recent_ratio), lookm::parse_text_overflow(text_overflow), kind);
    std::vector<int32_t> kept(scores.shape(0) * b.n_keep());
    lookm::select(m, b, {scores.data(), static_cast<size_t>(scores.size())}, kind, kept);
    return array_of(kept, scores.shape(0), b.n_keep());
}

py::tuple py_compress(const py::array & k_in, const py::array & v_in, const float_array & scores,
                      const bool_array & is_text, const std::string & method, double important_ratio,
                      double recent_ratio, const std::string & text_overflow, bool on_device) {
    const rows_array k = rows("k", k_in);
    const rows_array v = rows("v", v_in);
    if (k.type != v.type) {
        throw std::invalid_argument("v: dtype differs from k's; expected both float32 or both float16");
    }
    expect(v.array.shape(0) == k.array.shape(0) && v.array.shape(1) == k.array.shape(1), "v", v.array,
           "the n_head_kv and n_kv of k " + shape_of(k.array));
    expect(scores.ndim() == 2 && scores.shape(0) == k.array.shape(0) && scores.shape(1) == k.array.shape(1), "scores",
           scores, "[n_head_kv, n_kv] of k " + shape_of(k.array));
    check_scores(scores, is_text);
    const lookm::method & m = lookm::find_method(method);
    const lookm::ratios r = checked(important_ratio, recent_ratio);
    const lookm::text_overflow overflow = lookm::parse_text_overflow(text_overflow);
    const std::vector<lookm::token_kind> kind = kinds(is_text);
    const lookm::layer_arrays layer = {
        k.array.shape(0), k.array.shape(1), k.array.shape(2), v.array.shape(2), k.array.data(), v.array.data(), k.type};
    lookm::compressed_arrays out;
    {
        const std::span<const float> score(scores.data(), static_cast<size_t>(scores.size()));
        const py::gil_scoped_release nogil;
        out = lookm::compress_arrays(layer, score, kind, m, r, overflow, on_device);
    }
    return py::make_tuple(rows_of(out.k, k.array, out.n_keep), rows_of(out.v, v.array, out.n_keep),
                          array_of(out.kept, layer.n_head_kv, out.n_keep),
                          array_of(out.merged_into, layer.n_head_kv, layer.n_kv));
}

} // namespace

void bind_arrays(py::module_ & m) {
    m.def("scores", &py_scores, "q"_a.noconvert(), "k"_a, "scale"_a, "n_past"_a = 0, "on_device"_a = false);
    m.def("select", &py_select, "scores"_a.noconvert(), "is_text"_a.noconvert(), py::kw_only(), "method"_a,
          "important_ratio"_a, "recent_ratio"_a, "text_overflow"_a);
    m.def("compress", &py_compress, "k"_a, "v"_a, "scores"_a.noconvert(), "is_text"_a.noconvert(), py::kw_only(),
          "method"_a, "important_ratio"_a, "recent_ratio"_a, "text_overflow"_a, "on_device"_a = false);
}
