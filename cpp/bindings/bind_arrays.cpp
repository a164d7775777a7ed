#include "bindings.h"
#include "gil.h"

#include "lookm/core/auto_ratio.h"
#include "lookm/core/compression.h"
#include "lookm/core/pruning.h"
#include "lookm/core/rank.h"
#include "lookm/graph/prune_rows.h"
#include "lookm/graph/single_layer.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <optional>
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
        throw std::invalid_argument(std::string(name) + ": shape " + shape_of(a) + ", expected " +
                                    expected);
    }
}

// Contiguous rows of a cache and their type, as C++ has no type for f16.
struct rows_array {
    py::array array;
    ggml_type type;
};

rows_array rows(const char * name, const py::array & a) {
    const auto dtype = py::str(a.dtype()).cast<std::string>();
    if (dtype != "float32" && dtype != "float16") {
        throw std::invalid_argument(std::string(name) + ": dtype " + dtype +
                                    ", expected float32 or float16");
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
    expect(scores.ndim() == 2 && scores.size() > 0, "scores", scores,
           "[n_head_kv, n_kv], none of them 0");
    expect(is_text.ndim() == 1 && is_text.shape(0) == scores.shape(1), "is_text", is_text,
           "[n_kv] = [" + std::to_string(scores.shape(1)) + "]");
}

// The inputs of choosing cells, checked. Valid during one call, as it refers to NumPy's memory.
struct choosing {
    float_array scores;
    std::optional<float_array> squares;
    lookm::choice choice;

    choosing(const float_array & s, const std::optional<float_array> & sq,
             const lookm::compression & compression, int32_t layer)
        : scores(s), squares(sq), choice{lookm::resolve(compression),
                                         lookm::split(compression),
                                         {span_of(scores), {}},
                                         scores.shape(0),
                                         layer} {
        if (layer < 0) {
            throw std::invalid_argument("layer: " + std::to_string(layer) + ", expected 0 or more");
        }
        if (squares) {
            expect(squares->ndim() == 2 && squares->shape(0) == scores.shape(0) &&
                       squares->shape(1) == scores.shape(1),
                   "squares", *squares, "that of scores, " + shape_of(scores));
            choice.sums.sum_of_squares = span_of(*squares);
        } else if (lookm::needs_squares(choice.method)) {
            throw std::invalid_argument(
                "squares: None, but method " + std::string(choice.method.name) +
                " ranks by deviation; expected sums of squared attention " + shape_of(scores));
        }
    }

  private:
    static std::span<const float> span_of(const float_array & a) {
        return {a.data(), static_cast<size_t>(a.size())};
    }
};

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

float_array py_scores(const float_array & q, const py::array & k_in, float scale, int64_t n_past,
                      bool on_device) {
    const rows_array k = rows("k", k_in);
    expect(q.ndim() == 3 && q.size() > 0, "q", q, "[n_head, n_tokens, head_dim], none of them 0");
    expect(q.shape(2) == k.array.shape(2) && q.shape(0) % k.array.shape(0) == 0, "q", q,
           "the head_dim and a multiple of the heads of k " + shape_of(k.array));
    if (!std::isfinite(scale)) {
        throw std::invalid_argument("scale: " + std::to_string(scale) +
                                    ", expected a finite number");
    }
    if (n_past < 0 || n_past > k.array.shape(1) - q.shape(1)) {
        throw std::invalid_argument("n_past: " + std::to_string(n_past) + " + " +
                                    std::to_string(q.shape(1)) + " queries exceed n_kv " +
                                    std::to_string(k.array.shape(1)));
    }
    const lookm::score_shape s = {q.shape(0),       q.shape(1),       q.shape(2),
                                  k.array.shape(0), k.array.shape(1), n_past};
    std::vector<float> sums;
    {
        const void * data = k.array.data();
        const without_gil nogil;
        sums = lookm::score_arrays(q.data(), data, k.type, s, scale, on_device);
    }
    return array_of(sums, s.n_head_kv, s.n_kv);
}

int32_t py_first_query(const bool_array & is_text, const lookm::compression & compression) {
    expect(is_text.ndim() == 1 && is_text.size() > 0, "is_text", is_text, "[n_kv], not 0");
    const lookm::method m = lookm::resolve(compression);
    const std::vector<lookm::token_kind> kind = kinds(is_text);
    return lookm::first_query(m, lookm::make_budget(m, lookm::split(compression), kind), kind);
}

py::tuple py_choose_ratio(const float_array & scores, const bool_array & is_text,
                          const lookm::compression & compression,
                          const std::optional<float_array> & squares) {
    const std::optional<lookm::auto_ratio> wanted = lookm::automatic(compression);
    const lookm::method m = lookm::resolve(compression);
    if (!wanted || !m.evicts) {
        throw std::invalid_argument("method: " + compression.method +
                                    " chooses no ratio; expected one that evicts");
    }
    expect(scores.ndim() == 3 && scores.size() > 0, "scores", scores,
           "[n_layer, n_head_kv, n_kv], none of them 0");
    expect(is_text.ndim() == 1 && is_text.shape(0) == scores.shape(2), "is_text", is_text,
           "[n_kv] = [" + std::to_string(scores.shape(2)) + "]");
    if (lookm::needs_squares(m)) {
        if (!squares) {
            throw std::invalid_argument("squares: None, but method " + compression.method +
                                        " ranks by deviation; expected sums of squared attention " +
                                        shape_of(scores));
        }
        expect(squares->ndim() == 3 &&
                   std::equal(scores.shape(), scores.shape() + 3, squares->shape()),
               "squares", *squares, "that of scores, " + shape_of(scores));
    }
    const auto n = static_cast<size_t>(scores.shape(1) * scores.shape(2));
    std::vector<lookm::layer_attention> layers;
    for (py::ssize_t i = 0; i < scores.shape(0); ++i) {
        lookm::attention_sums sums = {{scores.data(i, 0, 0), n}, {}};
        if (lookm::needs_squares(m)) {
            sums.sum_of_squares = {squares->data(i, 0, 0), n};
        }
        layers.push_back({sums, scores.shape(1)});
    }
    lookm::ratio_choice chosen = {};
    {
        const std::vector<lookm::token_kind> kind = kinds(is_text);
        const without_gil nogil;
        chosen = lookm::choose_ratio(m, *wanted, {kind, kind}, 0, layers);
    }
    return py::make_tuple(chosen.ratio, chosen.held);
}

index_array py_select(const float_array & scores, const bool_array & is_text,
                      const lookm::compression & compression,
                      const std::optional<float_array> & squares, int32_t layer) {
    check_scores(scores, is_text);
    const choosing c(scores, squares, compression, layer);
    const std::vector<lookm::token_kind> kind = kinds(is_text);
    const lookm::budget b = lookm::make_budget(c.choice.method, c.choice.ratios, kind);
    return array_of(lookm::select_arrays(c.choice, b, kind), scores.shape(0), b.n_keep());
}

py::tuple py_compress(const py::array & k_in, const py::array & v_in, const float_array & scores,
                      const bool_array & is_text, const lookm::compression & compression,
                      const std::optional<float_array> & squares, int32_t layer_index,
                      bool on_device) {
    const rows_array k = rows("k", k_in);
    const rows_array v = rows("v", v_in);
    if (k.type != v.type) {
        throw std::invalid_argument(
            "v: dtype differs from k's; expected both float32 or both float16");
    }
    expect(v.array.shape(0) == k.array.shape(0) && v.array.shape(1) == k.array.shape(1), "v",
           v.array, "the n_head_kv and n_kv of k " + shape_of(k.array));
    expect(scores.ndim() == 2 && scores.shape(0) == k.array.shape(0) &&
               scores.shape(1) == k.array.shape(1),
           "scores", scores, "[n_head_kv, n_kv] of k " + shape_of(k.array));
    check_scores(scores, is_text);
    const choosing c(scores, squares, compression, layer_index);
    const std::vector<lookm::token_kind> kind = kinds(is_text);
    const lookm::layer_arrays layer = {k.array.shape(0),
                                       k.array.shape(1),
                                       k.array.shape(2),
                                       v.array.shape(2),
                                       k.array.data(),
                                       v.array.data(),
                                       k.type};
    lookm::compressed_arrays out;
    {
        const without_gil nogil;
        out = lookm::compress_arrays(layer, c.choice, kind, on_device);
    }
    return py::make_tuple(rows_of(out.k, k.array, out.n_keep), rows_of(out.v, v.array, out.n_keep),
                          array_of(out.kept, layer.n_head_kv, out.n_keep),
                          array_of(out.merged_into, layer.n_head_kv, layer.n_kv));
}

index_array py_prune(const float_array & cells, int32_t n_keep, const std::string & pruner,
                     const py::array_t<int32_t, py::array::c_style> & place,
                     const float_array & question, uint32_t seed) {
    expect(cells.ndim() == 2 && cells.size() > 0, "cells", cells, "[n_cells, d], none of them 0");
    expect(place.ndim() == 2 && place.shape(0) == cells.shape(0) && place.shape(1) == 2, "place",
           place, "[n_cells, 2] = [" + std::to_string(cells.shape(0)) + ", 2]");
    expect(question.ndim() == 2 && question.shape(1) == cells.shape(1), "question", question,
           "[n_tokens, d], d = " + std::to_string(cells.shape(1)));
    const auto n = static_cast<int32_t>(cells.shape(0));
    if (n_keep < 1 || n_keep > n) {
        throw std::invalid_argument("n_keep: " + std::to_string(n_keep) + ", expected 1 to " +
                                    std::to_string(n));
    }
    lookm::compression how;
    how.pruner = pruner;
    std::vector<std::array<int32_t, 2>> places(n);
    for (int32_t i = 0; i < n; ++i) {
        places[i] = {place.at(i, 0), place.at(i, 1)};
    }
    const lookm::prune_task task = {
        .pruner = lookm::pruning_of(how).by.pruner,
        .n_keep = n_keep,
        .rows = cells.data(),
        .n = n,
        .d = cells.shape(1),
        .stride = cells.shape(1),
        .place = places,
        .question = {question.data(), static_cast<size_t>(question.size())},
        .seed = seed};
    std::vector<int32_t> kept;
    {
        const without_gil nogil;
        kept = lookm::prune_rows(task);
    }
    return index_array(static_cast<py::ssize_t>(kept.size()), kept.data());
}

} // namespace

void bind_arrays(py::module_ & m) {
    m.def("scores", &py_scores, "q"_a.noconvert(), "k"_a, "scale"_a, "n_past"_a = 0,
          "on_device"_a = false);
    m.def("first_query", &py_first_query, "is_text"_a.noconvert(), "compression"_a);
    m.def("select", &py_select, "scores"_a.noconvert(), "is_text"_a.noconvert(), "compression"_a,
          py::kw_only(), "squares"_a = py::none(), "layer"_a = 0);
    m.def("choose_ratio", &py_choose_ratio, "scores"_a.noconvert(), "is_text"_a.noconvert(),
          "compression"_a, py::kw_only(), "squares"_a = py::none());
    m.def("compress", &py_compress, "k"_a, "v"_a, "scores"_a.noconvert(), "is_text"_a.noconvert(),
          "compression"_a, py::kw_only(), "squares"_a = py::none(), "layer"_a = 0,
          "on_device"_a = false);
    m.def("prune", &py_prune, "cells"_a.noconvert(), "n_keep"_a, "pruner"_a, "place"_a.noconvert(),
          "question"_a.noconvert(), "seed"_a);
}
