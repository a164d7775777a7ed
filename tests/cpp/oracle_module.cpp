#include "oracle_context.h"
#include "random_model.h"

#include "lookm/llama/log.h"
#include "lookm/llama/model.h"

#include "mtmd-helper.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>

namespace py = pybind11;
using namespace py::literals;

namespace {

ggml_type parse_type(const std::string & name) {
    for (int t = 0; t < GGML_TYPE_COUNT; ++t) {
        if (name == ggml_type_name(static_cast<ggml_type>(t))) {
            return static_cast<ggml_type>(t);
        }
    }
    throw std::invalid_argument("unknown type " + name);
}

struct py_model {
    llama_model_ptr model;
};

struct py_context {
    std::shared_ptr<py_model> model;
    oracle_context oracle;
};

py::array_t<float> array3(const std::vector<float> & values, int64_t n0, int64_t n1, int64_t n2) {
    py::array_t<float> out({n0, n1, n2});
    std::copy(values.begin(), values.end(), out.mutable_data());
    return out;
}

py::array_t<float> vector_of(const std::vector<float> & values) {
    return py::array_t<float>(static_cast<py::ssize_t>(values.size()), values.data());
}

// llama.cpp's own multimodal pipeline, greedy: mtmd's tokenizer and evaluation, then one token after the other.
std::string mtmd_answer(const std::string & model_path, const std::string & mmproj_path, const std::string & prompt,
                        const std::vector<std::string> & image_files, int32_t max_tokens) {
    llama_model_ptr model{llama_model_load_from_file(model_path.c_str(), llama_model_default_params())};
    llama_context_params params = llama_context_default_params();
    params.n_ctx = 0; // what the model was trained with
    params.n_threads = params.n_threads_batch = 1;
    llama_context_ptr ctx{llama_init_from_model(model.get(), params)};
    mtmd_context_params mtmd_params = mtmd_context_params_default();
    mtmd_params.n_threads = 1;
    mtmd::context_ptr mtmd{mtmd_init_from_file(mmproj_path.c_str(), model.get(), mtmd_params)};
    mtmd::bitmaps images;
    for (const std::string & file : image_files) {
        images.entries.emplace_back(
            mtmd_helper_bitmap_init_from_file(mtmd.get(), file.c_str(), false, mtmd_helper_init_opt_default()).bitmap);
    }
    mtmd::input_chunks_ptr chunks{mtmd_input_chunks_init()};
    const mtmd_input_text text = {prompt.c_str(), prompt.size(), true, true};
    llama_pos n_past = 0;
    const auto pointers = images.c_ptr();
    if (mtmd_tokenize(mtmd.get(), chunks.get(), &text, pointers.data(), pointers.size()) != 0 ||
        mtmd_helper_eval_chunks(mtmd.get(), ctx.get(), chunks.get(), 0, 0, 2048, true, &n_past) != 0) {
        throw std::runtime_error("mtmd failed");
    }
    const llama_vocab * vocab = llama_model_get_vocab(model.get());
    std::string answer;
    for (int32_t i = 0; i < max_tokens; ++i) {
        const float * logits = llama_get_logits_ith(ctx.get(), -1);
        llama_token token =
            static_cast<llama_token>(std::max_element(logits, logits + llama_vocab_n_tokens(vocab)) - logits);
        if (llama_vocab_is_eog(vocab, token)) {
            break;
        }
        char piece[128];
        answer.append(piece, std::max(0, llama_token_to_piece(vocab, token, piece, sizeof(piece), 0, false)));
        if (llama_decode(ctx.get(), llama_batch_get_one(&token, 1)) != 0) {
            throw std::runtime_error("llama_decode failed");
        }
    }
    return answer;
}

py::dict compress(py_context & c, const std::string & method, double important, double recent,
                  const std::string & overflow, bool on_device) {
    const lookm::compress_result r = c.oracle.compress(
        {&lookm::find_method(method), {important, recent}, lookm::parse_text_overflow(overflow), on_device});
    py::list kept;
    for (size_t i = 0; i < r.kept.size(); ++i) {
        const int64_t n_head = c.oracle.layer(static_cast<int32_t>(i)).k.n_head_kv;
        py::array_t<int32_t> a({n_head, static_cast<int64_t>(r.kept[i].size()) / n_head});
        std::copy(r.kept[i].begin(), r.kept[i].end(), a.mutable_data());
        kept.append(a);
    }
    return py::dict("kept"_a = kept, "n_keep"_a = r.n_keep, "n_text"_a = r.n_text, "n_image"_a = r.n_image,
                    "note"_a = r.note, "seconds"_a = r.seconds, "peak_bytes"_a = r.peak_bytes,
                    "score_seconds"_a = c.oracle.score_seconds());
}

} // namespace

PYBIND11_MODULE(_oracle, m) {
    lookm::set_verbose(false);
    m.def("mtmd_answer", &mtmd_answer, "model_path"_a, "mmproj_path"_a, "prompt"_a, "image_files"_a, "max_tokens"_a);

    py::class_<py_model, std::shared_ptr<py_model>>(m, "Model")
        .def_static(
            "random",
            [](const std::string & arch, int32_t n_layer, int32_t n_head, int32_t n_head_kv, int32_t head_dim,
               uint32_t seed, const std::string & weight) {
                return std::make_shared<py_model>(
                    random_model({arch, n_layer, n_head, n_head_kv, head_dim, 128, 8192, seed, weight}));
            },
            py::kw_only(), "arch"_a = "llama", "n_layer"_a = 3, "n_head"_a = 4, "n_head_kv"_a = 2, "head_dim"_a = 64,
            "seed"_a = 1, "weight"_a = "f32")
        .def_static(
            "load",
            [](const std::string & path) {
                lookm::model_options o;
                o.model_path = path;
                return std::make_shared<py_model>(lookm::load_model(o));
            },
            "path"_a);

    py::class_<py_context>(m, "Context")
        .def(py::init([](const std::shared_ptr<py_model> & model, int32_t n_ctx, int32_t n_ubatch, bool flash_attn,
                         const std::string & type_k, const std::string & type_v, int32_t n_threads) {
                 return std::unique_ptr<py_context>(
                     new py_context{model, oracle_context(model->model.get(), n_ctx, n_ubatch, flash_attn,
                                                          parse_type(type_k), parse_type(type_v), n_threads)});
             }),
             "model"_a, py::kw_only(), "n_ctx"_a = 1024, "n_ubatch"_a = 128, "flash_attn"_a = true, "type_k"_a = "f16",
             "type_v"_a = "f16", "n_threads"_a = 1)
        .def(
            "prefill",
            [](py_context & c, const std::vector<int32_t> & tokens, bool scored) {
                return vector_of(c.oracle.prefill(tokens, scored));
            },
            "tokens"_a, "scored"_a = true)
        .def("decode", [](py_context & c, int32_t token) { return vector_of(c.oracle.decode(token)); })
        .def("compress", &compress, py::kw_only(), "method"_a = "text_prior_pivot_merge", "important_ratio"_a = 0.1,
             "recent_ratio"_a = 0.1, "text_overflow"_a = "keep", "on_device"_a = false)
        .def("scores",
             [](py_context & c, int32_t layer) {
                 const std::vector<float> s = c.oracle.scores(layer);
                 const int64_t n_head = c.oracle.layer(layer).k.n_head_kv;
                 py::array_t<float> out({n_head, static_cast<int64_t>(s.size()) / n_head});
                 std::copy(s.begin(), s.end(), out.mutable_data());
                 return out;
             })
        .def("mask",
             [](py_context & c, const std::vector<py::array_t<int32_t, py::array::c_style>> & kept, int32_t n_prompt) {
                 std::vector<std::vector<int32_t>> lists;
                 for (const auto & k : kept) {
                     lists.emplace_back(k.data(), k.data() + k.size());
                 }
                 c.oracle.mask(std::move(lists), n_prompt);
             })
        .def(
            "rows",
            [](py_context & c, int32_t layer, bool values) {
                const lookm::kv_rows & r = values ? c.oracle.layer(layer).v : c.oracle.layer(layer).k;
                const std::vector<float> v = c.oracle.rows(layer, values);
                return array3(v, r.n_head_kv, static_cast<int64_t>(v.size()) / (r.n_head_kv * r.head_dim), r.head_dim);
            },
            "layer"_a, "values"_a)
        .def_property_readonly("n_layer", [](py_context & c) { return c.oracle.n_layer(); })
        .def_property_readonly("last_n_kv", [](py_context & c) { return c.oracle.last_n_kv(); })
        .def_property_readonly("n_used", [](py_context & c) { return c.oracle.kv().n_used(); })
        .def_property_readonly("bytes_per_cell", [](py_context & c) { return c.oracle.kv().bytes_per_cell(); })
        .def_property_readonly(
            "pos_max", [](py_context & c) { return llama_memory_seq_pos_max(llama_get_memory(c.oracle.raw()), 0); });
}
