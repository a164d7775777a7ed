#include "oracle_types.h"
#include "sequences.h"

#include "lookm/core/compression.h"

#include <pybind11/functional.h>
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <memory>
#include <tuple>

namespace py = pybind11;
using namespace py::literals;

namespace {

struct py_sequences {
    std::shared_ptr<py_model> model;
    sequences s;

    int64_t n_head_kv(int32_t layer) const { return s.kv().layers()[layer].k.n_head_kv; }
};

py::array_t<float> array(const std::vector<float> & values, std::vector<py::ssize_t> shape) {
    py::array_t<float> out(std::move(shape));
    std::copy(values.begin(), values.end(), out.mutable_data());
    return out;
}

py::array_t<float> vector_of(const std::vector<float> & values) {
    return array(values, {static_cast<py::ssize_t>(values.size())});
}

py::dict compress(py_sequences & c, llama_seq_id seq, const std::string & method, double important,
                  double recent, bool on_device) {
    const lookm::compress_result r =
        c.s.compress(seq, {lookm::resolve({.method = method}), {important, recent}, on_device});
    py::list kept;
    for (size_t i = 0; i < r.kept.size(); ++i) {
        const int64_t n_head = c.n_head_kv(static_cast<int32_t>(i));
        py::array_t<int32_t> a({n_head, static_cast<int64_t>(r.kept[i].size()) / n_head});
        std::copy(r.kept[i].begin(), r.kept[i].end(), a.mutable_data());
        kept.append(a);
    }
    return py::dict("kept"_a = kept, "n_keep"_a = r.n_keep, "note"_a = r.note);
}

using runs = std::vector<std::tuple<int32_t, int32_t, int32_t>>; // first, n, n_keep

py::list squeeze(py_sequences & c, llama_seq_id seq, const runs & given, const std::string & method,
                 bool on_device) {
    std::vector<lookm::cell_run> list;
    for (const auto & [first, n, n_keep] : given) {
        list.push_back({first, n, n_keep});
    }
    const auto kept = c.s.squeeze(seq, {lookm::resolve({.method = method}), {}, on_device}, list);
    py::list out;
    for (size_t i = 0; i < kept.size(); ++i) {
        const int64_t n_head = c.n_head_kv(static_cast<int32_t>(i));
        py::array_t<int32_t> a({n_head, static_cast<int64_t>(kept[i].size()) / n_head});
        std::copy(kept[i].begin(), kept[i].end(), a.mutable_data());
        out.append(a);
    }
    return out;
}

runs tuples(const std::vector<lookm::cell_run> & given) {
    runs out;
    for (const lookm::cell_run & run : given) {
        out.emplace_back(run.first, run.n, run.n_keep);
    }
    return out;
}

} // namespace

void bind_sequences(py::module_ & m) {
    // parts: (number of cells, whether text, whether evictable, whether it must be read as a whole)
    py::class_<lookm::prompt_cap>(m, "PromptCap")
        .def(py::init([](const std::vector<std::tuple<int32_t, bool, bool, bool>> & given,
                         int32_t cap, int32_t n_batch, int32_t n_answer) {
                 std::vector<lookm::prompt_part> parts;
                 for (const auto & [n, text, evictable, whole] : given) {
                     parts.push_back({n, text ? lookm::token_kind::text : lookm::token_kind::image,
                                      evictable, whole});
                 }
                 return lookm::prompt_cap(parts, cap, n_batch, n_answer);
             }),
             "parts"_a, "cap"_a, "n_batch"_a = 512, "n_answer"_a = 0)
        .def(
            "room_for", [](lookm::prompt_cap & c, int32_t n) { return tuples(c.room_for(n)); },
            "n"_a)
        .def(
            "leave", [](lookm::prompt_cap & c, int32_t n_most) { return tuples(c.leave(n_most)); },
            "n_most"_a)
        .def("add", &lookm::prompt_cap::add, "n"_a)
        .def_property_readonly("n_next", &lookm::prompt_cap::n_next)
        .def_property_readonly("n_at_once", &lookm::prompt_cap::n_at_once)
        .def_property_readonly("n_answer", &lookm::prompt_cap::n_answer)
        .def_property_readonly("n_held", &lookm::prompt_cap::n_held)
        .def_property_readonly("is_text", [](const lookm::prompt_cap & c) {
            std::vector<bool> out;
            for (const lookm::token_kind kind : c.kinds()) {
                out.push_back(kind == lookm::token_kind::text);
            }
            return out;
        });

    py::class_<py_sequences>(m, "Sequences")
        .def(py::init([](const std::shared_ptr<py_model> & model, int32_t n_ctx, int32_t n_seq,
                         int32_t n_ubatch, bool unified, bool flash_attn, bool causal_images,
                         const std::string & type_k, const std::string & type_v) {
                 const sequences_options o = {
                     n_ctx,      n_seq,         n_ubatch,           unified,
                     flash_attn, causal_images, parse_type(type_k), parse_type(type_v)};
                 return std::unique_ptr<py_sequences>(
                     new py_sequences{model, sequences(model->model.get(), o)});
             }),
             "model"_a, py::kw_only(), "n_ctx"_a = 1024, "n_seq"_a = 1, "n_ubatch"_a = 128,
             "unified"_a = true, "flash_attn"_a = true, "causal_images"_a = true,
             "type_k"_a = "f16", "type_v"_a = "f16")
        .def("text",
             [](py_sequences & c, llama_seq_id seq, const std::vector<llama_token> & tokens) {
                 return vector_of(c.s.text(seq, tokens));
             })
        .def("image", [](py_sequences & c, llama_seq_id seq, uint32_t seed, int32_t width,
                         int32_t height) { c.s.image(seq, seed, width, height); })
        .def("image_in_batches",
             [](py_sequences & c, llama_seq_id seq, uint32_t seed, int32_t width, int32_t height,
                int32_t n_batch, const std::function<void(int32_t)> & between) {
                 c.s.image(seq, seed, width, height, n_batch, between);
             })
        .def("together",
             [](py_sequences & c, const std::map<llama_seq_id, std::vector<llama_token>> & tokens) {
                 py::list out;
                 for (const std::vector<float> & l : c.s.together(tokens)) {
                     out.append(vector_of(l));
                 }
                 return out;
             })
        .def("copy",
             [](py_sequences & c, llama_seq_id from, llama_seq_id to) { c.s.copy(from, to); })
        .def("take_over", [](py_sequences & c, const py_sequences & other,
                             llama_seq_id seq) { c.s.take_over(other.s, seq); })
        .def("remove", [](py_sequences & c, llama_seq_id seq, llama_pos p0,
                          llama_pos p1) { c.s.remove(seq, p0, p1); })
        .def("isolate", [](py_sequences & c, llama_seq_id seq, int32_t n) { c.s.isolate(seq, n); })
        .def("unite", [](py_sequences & c) { c.s.unite(); })
        .def("arm", [](py_sequences & c) { c.s.arm(); })
        .def("observe_all",
             [](py_sequences & c, const std::string & method) {
                 c.s.observe_all({lookm::resolve({.method = method}), {}});
             })
        .def("squeeze", &squeeze, "seq"_a, "runs"_a, py::kw_only(), "method"_a,
             "on_device"_a = false)
        .def("compress", &compress, "seq"_a, py::kw_only(), "method"_a = "text_prior_pivot_merge",
             "important_ratio"_a = 0.1, "recent_ratio"_a = 0.1, "on_device"_a = false)
        .def("mask",
             [](py_sequences & c, llama_seq_id seq,
                const std::vector<py::array_t<int32_t, py::array::c_style>> & kept) {
                 std::vector<std::vector<int32_t>> lists;
                 for (const auto & k : kept) {
                     lists.emplace_back(k.data(), k.data() + k.size());
                 }
                 c.s.mask(seq, lists);
             })
        .def("scores",
             [](py_sequences & c, llama_seq_id seq, int32_t layer) {
                 const std::vector<float> s = c.s.scores(seq, layer);
                 return array(
                     s, {c.n_head_kv(layer), static_cast<int64_t>(s.size()) / c.n_head_kv(layer)});
             })
        .def("rows",
             [](py_sequences & c, llama_seq_id seq, int32_t layer, bool values) {
                 const lookm::kv_layer & l = c.s.kv().layers()[layer];
                 const int64_t d = values ? l.v.head_dim : l.k.head_dim;
                 const std::vector<float> v = c.s.rows(seq, layer, values);
                 return array(v, {c.n_head_kv(layer),
                                  static_cast<int64_t>(v.size()) / (c.n_head_kv(layer) * d), d});
             })
        .def("cells", [](py_sequences & c, llama_seq_id seq) { return c.s.cells(seq); })
        .def("is_text", [](py_sequences & c, llama_seq_id seq) { return c.s.is_text(seq); })
        .def("partial_state",
             [](py_sequences & c, llama_seq_id seq) { return py::bytes(c.s.partial_state(seq)); })
        .def("pos_max", [](py_sequences & c, llama_seq_id seq) { return c.s.pos_max(seq); })
        .def_property_readonly("layers",
                               [](py_sequences & c) {
                                   std::vector<int32_t> ils;
                                   for (const lookm::kv_layer & l : c.s.kv().layers()) {
                                       ils.push_back(l.il);
                                   }
                                   return ils;
                               })
        .def_property_readonly("n_used", [](py_sequences & c) { return c.s.kv().n_used(); })
        .def_property_readonly("last_n_kv", [](py_sequences & c) { return c.s.last_n_kv(); });
}
