#include "mtmd_prompt.h"
#include "oracle_context.h"
#include "oracle_types.h"
#include "random_model.h"
#include "score_module.h"
#include "threads_module.h"
#include "turns_module.h"

#include "bindings/fields.h"
#include "lookm/core/compression.h"
#include "lookm/graph/probe.h"
#include "lookm/host/log.h"
#include "lookm/host/memory_room.h"
#include "lookm/model/model.h"
#include "lookm/prompt/prompt.h"

#include "mtmd-helper.h"

#include <pybind11/functional.h>
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>

namespace py = pybind11;
using namespace py::literals;

ggml_type parse_type(const std::string & name) {
    for (int t = 0; t < GGML_TYPE_COUNT; ++t) {
        if (name == ggml_type_name(static_cast<ggml_type>(t))) {
            return static_cast<ggml_type>(t);
        }
    }
    throw std::invalid_argument("unknown type " + name);
}

namespace {

struct py_context {
    std::shared_ptr<py_model> model;
    oracle_context oracle;
};

struct py_prompt {
    std::shared_ptr<py_model> model;
    mtmd_prompt prompt;
};

std::unique_ptr<py_prompt>
make_prompt(const std::shared_ptr<py_model> & model, const std::string & mmproj_path,
            const std::string & text,
            const std::vector<py::array_t<uint8_t, py::array::c_style>> & arrays) {
    std::vector<mtmd_image> images;
    for (const auto & a : arrays) {
        images.push_back({{a.data(), a.data() + a.size()},
                          static_cast<uint32_t>(a.shape(1)),
                          static_cast<uint32_t>(a.shape(0))});
    }
    return std::unique_ptr<py_prompt>(
        new py_prompt{model, {model->model.get(), mmproj_path, text, images}});
}

py::array_t<float> array3(const std::vector<float> & values, int64_t n0, int64_t n1, int64_t n2) {
    py::array_t<float> out({n0, n1, n2});
    std::copy(values.begin(), values.end(), out.mutable_data());
    return out;
}

py::array_t<float> vector_of(const std::vector<float> & values) {
    return py::array_t<float>(static_cast<py::ssize_t>(values.size()), values.data());
}

// The answer of llama.cpp's multimodal pipeline with greedy sampling: mtmd reads the prompt, then
// one token is decoded after the other.
std::string mtmd_answer(const std::string & model_path, const std::string & mmproj_path,
                        const std::string & prompt, const std::vector<std::string> & image_files,
                        int32_t max_tokens) {
    llama_model_ptr model{
        llama_model_load_from_file(model_path.c_str(), llama_model_default_params())};
    llama_context_params params = llama_context_default_params();
    params.n_ctx = 0; // the length that the model was trained with
    params.n_threads = params.n_threads_batch = 1;
    llama_context_ptr ctx{llama_init_from_model(model.get(), params)};
    mtmd_context_params mtmd_params = mtmd_context_params_default();
    mtmd_params.n_threads = 1;
    mtmd::context_ptr mtmd{mtmd_init_from_file(mmproj_path.c_str(), model.get(), mtmd_params)};
    mtmd::bitmaps images;
    for (const std::string & file : image_files) {
        images.entries.emplace_back(
            mtmd_helper_bitmap_init_from_file(mtmd.get(), file.c_str(), false,
                                              mtmd_helper_init_opt_default())
                .bitmap);
    }
    mtmd::input_chunks_ptr chunks{mtmd_input_chunks_init()};
    const mtmd_input_text text = {prompt.c_str(), prompt.size(), true, true};
    llama_pos n_past = 0;
    const auto pointers = images.c_ptr();
    if (mtmd_tokenize(mtmd.get(), chunks.get(), &text, pointers.data(), pointers.size()) != 0 ||
        mtmd_helper_eval_chunks(mtmd.get(), ctx.get(), chunks.get(), 0, 0, 2048, true, &n_past) !=
            0) {
        throw std::runtime_error("mtmd failed");
    }
    const llama_vocab * vocab = llama_model_get_vocab(model.get());
    std::string answer;
    for (int32_t i = 0; i < max_tokens; ++i) {
        const float * logits = llama_get_logits_ith(ctx.get(), -1);
        llama_token token = static_cast<llama_token>(
            std::max_element(logits, logits + llama_vocab_n_tokens(vocab)) - logits);
        if (llama_vocab_is_eog(vocab, token)) {
            break;
        }
        char piece[128];
        answer.append(
            piece, std::max(0, llama_token_to_piece(vocab, token, piece, sizeof(piece), 0, false)));
        if (llama_decode(ctx.get(), llama_batch_get_one(&token, 1)) != 0) {
            throw std::runtime_error("llama_decode failed");
        }
    }
    return answer;
}

// The prompt by llama.cpp's built-in chat template of this name, up to where the answer begins.
std::string chat(const std::string & name,
                 const std::vector<std::pair<std::string, std::string>> & messages) {
    std::vector<llama_chat_message> chat;
    for (const auto & [role, content] : messages) {
        chat.push_back({role.c_str(), content.c_str()});
    }
    std::string out(1 << 16, '\0');
    const int32_t n =
        llama_chat_apply_template(name.c_str(), chat.data(), chat.size(), /*add_ass =*/true,
                                  out.data(), static_cast<int32_t>(out.size()));
    if (n < 0 || n > static_cast<int32_t>(out.size())) {
        throw std::runtime_error("llama_chat_apply_template failed");
    }
    out.resize(n);
    return out;
}

std::shared_ptr<py_model> load(const std::string & path) {
    lookm::model_options o;
    o.model_path = path;
    auto made = std::make_shared<py_model>();
    made->model = lookm::load_model(o, made->devices);
    return made;
}

// The tokens of one text by llama.cpp's tokenizer
std::vector<llama_token> tokens(const std::string & model_path, const std::string & text,
                                bool parse_special) {
    const std::shared_ptr<py_model> loaded = load(model_path);
    const llama_model_ptr & model = loaded->model;
    std::vector<llama_token> out(text.size() + 8);
    out.resize(llama_tokenize(llama_model_get_vocab(model.get()), text.data(),
                              static_cast<int32_t>(text.size()), out.data(),
                              static_cast<int32_t>(out.size()), false, parse_special));
    return out;
}

std::vector<lookm::image_source>
sources(const std::vector<py::array_t<uint8_t, py::array::c_style>> & images) {
    std::vector<lookm::image_source> out;
    for (const auto & image : images) {
        out.emplace_back([&image] {
            return mtmd::bitmap(static_cast<uint32_t>(image.shape(1)),
                                static_cast<uint32_t>(image.shape(0)), image.data());
        });
    }
    return out;
}

// The chunks that lookm makes of a prompt with the marker <image>, in the form in which py_prompt
// shows those of mtmd.
py::tuple prompt_chunks(const std::string & model_path, const std::string & mmproj_path,
                        const std::string & text,
                        const std::vector<py::array_t<uint8_t, py::array::c_style>> & images) {
    lookm::model_options o;
    o.model_path = model_path;
    o.mmproj_path = mmproj_path;
    o.n_threads = 1;
    lookm::device_list devices;
    const llama_model_ptr model = lookm::load_model(o, devices);
    const mtmd::context_ptr mmproj = lookm::load_mmproj(model.get(), o, "<image>");
    const lookm::prompt p =
        lookm::tokenize(model.get(), mmproj.get(), text, {"<image>", "<_>"}, sources(images), {});
    std::vector<std::vector<llama_token>> tokens;
    py::list saved;
    std::vector<std::vector<float>> embeddings;
    for (const lookm::prompt_chunk & chunk : p.chunks) {
        tokens.push_back(chunk.tokens);
        if (chunk.image) {
            const std::vector<char> bytes = lookm::saved_bytes(chunk.image);
            saved.append(py::bytes(bytes.data(), bytes.size()));
            if (mtmd_encode_chunk(mmproj.get(), chunk.image) != 0) {
                throw std::runtime_error("mtmd_encode_chunk failed");
            }
            const float * values = mtmd_get_output_embd(mmproj.get());
            embeddings.emplace_back(values,
                                    values + llama_model_n_embd_inp(model.get()) * chunk.n_cells());
        }
    }
    return py::make_tuple(tokens, saved, embeddings);
}

// For every cell of a prompt with the markers <image> and <context>: its token (-1 for an image),
// and whether it is text that belongs to no context.
std::vector<std::pair<llama_token, bool>>
prompt_cells(const std::string & model_path, const std::string & mmproj_path,
             const std::string & text,
             const std::vector<py::array_t<uint8_t, py::array::c_style>> & images,
             const std::vector<std::string> & contexts) {
    lookm::model_options o;
    o.model_path = model_path;
    o.mmproj_path = mmproj_path;
    o.n_threads = 1;
    lookm::device_list devices;
    const llama_model_ptr model = lookm::load_model(o, devices);
    const mtmd::context_ptr mmproj = lookm::load_mmproj(model.get(), o, "<image>");
    const lookm::prompt p = lookm::tokenize(model.get(), mmproj.get(), text,
                                            {"<image>", "<context>"}, sources(images), contexts);
    std::vector<std::pair<llama_token, bool>> out;
    for (const lookm::prompt_chunk & chunk : p.chunks) {
        for (int32_t i = 0; i < chunk.n_cells(); ++i) {
            out.emplace_back(chunk.image ? -1 : chunk.tokens[i], false);
        }
    }
    const std::vector<lookm::token_kind> kinds = p.kinds();
    for (size_t i = 0; i < out.size(); ++i) {
        out[i].second = kinds.at(i) == lookm::token_kind::text;
    }
    return out;
}

// A method by its name, with the given fields of a compression.
lookm::method method_of(const std::string & name, const py::kwargs & given) {
    auto compression = from_fields<lookm::compression>(given);
    compression.method = name;
    return lookm::resolve(compression);
}

py::dict compress(py_context & c, const std::string & method, double important, double recent,
                  bool on_device, const std::vector<bool> & is_text, const py::kwargs & given) {
    lookm::compress_options options = {method_of(method, given), {important, recent}, on_device};
    for (const bool text : is_text) {
        options.kind.push_back(text ? lookm::token_kind::text : lookm::token_kind::image);
    }
    const lookm::compress_result r = c.oracle.compress(options);
    py::list kept;
    for (size_t i = 0; i < r.kept.size(); ++i) {
        const int64_t n_head = c.oracle.layer(static_cast<int32_t>(i)).k.n_head_kv;
        py::array_t<int32_t> a({n_head, static_cast<int64_t>(r.kept[i].size()) / n_head});
        std::copy(r.kept[i].begin(), r.kept[i].end(), a.mutable_data());
        kept.append(a);
    }
    return py::dict("kept"_a = kept, "n_keep"_a = r.n_keep, "n_text"_a = r.n_text,
                    "n_image"_a = r.n_image, "n_staged"_a = r.n_staged, "note"_a = r.note,
                    "seconds"_a = r.seconds, "peak_bytes"_a = r.peak_bytes,
                    "score_seconds"_a = c.oracle.score_seconds());
}

} // namespace

PYBIND11_MODULE(_oracle, m) {
    lookm::set_verbose(false);
    bind_scores(m);
#if defined(LOOKM_OWN_THREADS)
    bind_threads(m);
#endif
    bind_sequences(m);
    bind_turns(m);
    m.attr("rpc_server") = LOOKM_RPC_SERVER; // path of ggml-rpc-server, "" in a build without RPC
    m.def(
        "mtmd_answer", // returns bytes, as the answer may end within a character
        [](const std::string & model_path, const std::string & mmproj_path,
           const std::string & prompt, const std::vector<std::string> & image_files,
           int32_t max_tokens) {
            return py::bytes(mtmd_answer(model_path, mmproj_path, prompt, image_files, max_tokens));
        },
        "model_path"_a, "mmproj_path"_a, "prompt"_a, "image_files"_a, "max_tokens"_a);
    m.def("chat", &chat, "name"_a, "messages"_a);
    m.def("tokens", &tokens, "model_path"_a, "text"_a, "parse_special"_a);
    m.def("prompt_chunks", &prompt_chunks, "model_path"_a, "mmproj_path"_a, "text"_a, "images"_a);
    m.def("prompt_cells", &prompt_cells, "model_path"_a, "mmproj_path"_a, "text"_a, "images"_a,
          "contexts"_a);

    // Runs every graph for devices. gate(address of the ggml_tensor, op, types of its sources and
    // of itself) says whether a backend supports a node. Raises RuntimeError if it does not.
    m.def(
        "probe",
        [](const std::string & type_k, const std::string & type_v, int64_t head_dim,
           bool flash_attn,
           const std::function<bool(uintptr_t, std::string, std::vector<std::string>)> & gate) {
            lookm::probe_device_graphs(
                {parse_type(type_k), parse_type(type_v), head_dim, flash_attn},
                [&](const ggml_tensor * node) {
                    std::vector<std::string> types;
                    for (int i = 0; i < GGML_MAX_SRC && node->src[i]; ++i) {
                        types.emplace_back(ggml_type_name(node->src[i]->type));
                    }
                    types.emplace_back(ggml_type_name(node->type));
                    return gate(reinterpret_cast<uintptr_t>(node), ggml_op_name(node->op), types);
                });
        },
        py::kw_only(), "type_k"_a, "type_v"_a, "head_dim"_a, "flash_attn"_a, "gate"_a);

    py::class_<py_model, std::shared_ptr<py_model>>(m, "Model")
        .def_static(
            "random",
            [](const std::string & arch, int32_t n_layer, int32_t n_head, int32_t n_head_kv,
               int32_t head_dim, uint32_t seed, const std::string & weight,
               const std::vector<std::pair<std::string, metadata_value>> & metadata,
               bool split_tensors, const std::string & rpc_servers, int32_t n_gpu_layers) {
                auto made = std::make_shared<py_model>();
                made->devices = lookm::device_list(rpc_servers);
                made->model = random_model({arch, n_layer, n_head, n_head_kv, head_dim, 128, 8192,
                                            seed, weight, metadata, split_tensors,
                                            made->devices.data(), n_gpu_layers});
                return made;
            },
            py::kw_only(), "arch"_a = "llama", "n_layer"_a = 3, "n_head"_a = 4, "n_head_kv"_a = 2,
            "head_dim"_a = 64, "seed"_a = 1, "weight"_a = "f32", "metadata"_a = py::list(),
            "split_tensors"_a = false, "rpc_servers"_a = "", "n_gpu_layers"_a = -1)
        .def_static("load", &load, "path"_a);

    m.attr("marker") = mtmd_default_marker();
    py::class_<py_prompt>(m, "Prompt")
        .def(py::init(&make_prompt), "model"_a, "mmproj_path"_a, "text"_a, "images"_a)
        .def_property_readonly("n_tokens", [](const py_prompt & p) { return p.prompt.n_tokens(); })
        .def_property_readonly("n_pos", [](const py_prompt & p) { return p.prompt.n_pos(); })
        .def_property_readonly("n_image", [](const py_prompt & p) { return p.prompt.n_image(); })
        .def_property_readonly("tokens", [](const py_prompt & p) { return p.prompt.tokens(); })
        .def_property_readonly("saved_images",
                               [](const py_prompt & p) {
                                   py::list out;
                                   for (const std::string & bytes : p.prompt.saved_images()) {
                                       out.append(py::bytes(bytes));
                                   }
                                   return out;
                               })
        .def_property_readonly("embeddings",
                               [](const py_prompt & p) { return p.prompt.embeddings(); })
        .def_property_readonly("is_text", [](const py_prompt & p) { return p.prompt.is_text(); })
        .def_property_readonly("has_wider_embeddings",
                               [](const py_prompt & p) { return p.prompt.has_wider_embeddings(); });

    py::class_<py_context>(m, "Context")
        .def(py::init([](const std::shared_ptr<py_model> & model, int32_t n_ctx, int32_t n_ubatch,
                         bool flash_attn, const std::string & type_k, const std::string & type_v,
                         int32_t n_threads, int32_t n_seq, bool kv_unified, size_t compute_bytes) {
                 return std::unique_ptr<py_context>(new py_context{
                     model, oracle_context(model->model.get(), n_ctx, n_ubatch, flash_attn,
                                           parse_type(type_k), parse_type(type_v), n_threads, n_seq,
                                           kv_unified, compute_bytes)});
             }),
             "model"_a, py::kw_only(), "n_ctx"_a = 1024, "n_ubatch"_a = 128, "flash_attn"_a = true,
             "type_k"_a = "f16", "type_v"_a = "f16", "n_threads"_a = 1, "n_seq"_a = 1,
             "kv_unified"_a = false, "compute_bytes"_a = lookm::default_compute_bytes)
        .def(
            "prefill",
            [](py_context & c, const std::vector<int32_t> & tokens, bool scored, bool squares,
               int32_t first_query) {
                const lookm::tap_plan plan = {squares, first_query};
                return vector_of(
                    c.oracle.prefill(tokens, scored ? std::optional(plan) : std::nullopt));
            },
            "tokens"_a, "scored"_a = true, py::kw_only(), "squares"_a = false, "first_query"_a = 0)
        .def(
            "prefill_for",
            [](py_context & c, const std::vector<int32_t> & tokens, const std::string & method,
               double important, double recent, const py::kwargs & options) {
                return vector_of(c.oracle.prefill_for(
                    tokens, {method_of(method, options), {important, recent}}));
            },
            "tokens"_a, py::kw_only(), "method"_a, "important_ratio"_a, "recent_ratio"_a)
        .def(
            "prefill_together",
            [](py_context & c, const std::vector<std::vector<int32_t>> & prompts, bool squares,
               int32_t first_query) { c.oracle.prefill_together(prompts, {squares, first_query}); },
            "prompts"_a, py::kw_only(), "squares"_a = false, "first_query"_a = 0)
        .def(
            "prefill_prompt",
            [](py_context & c, const py_prompt & p, bool scored, int32_t first_query) {
                const lookm::tap_plan plan = {false, first_query};
                return vector_of(
                    c.oracle.prefill([&](llama_context * ctx) { return p.prompt.evaluate(ctx); },
                                     scored ? std::optional(plan) : std::nullopt));
            },
            "prompt"_a, "scored"_a = true, py::kw_only(), "first_query"_a = 0)
        .def(
            "see_only",
            [](py_context & c, const std::vector<bool> & seen) { c.oracle.see_only(seen); },
            "seen"_a)
        .def(
            "prefill_cells",
            [](py_context & c, const py_prompt & p,
               const std::vector<std::vector<int32_t>> & cells) {
                return vector_of(c.oracle.prefill(
                    [&](llama_context * ctx) { return p.prompt.evaluate(ctx, cells); },
                    std::nullopt));
            },
            "prompt"_a, "cells"_a)
        .def(
            "refuse",
            [](py_context & c, const std::vector<std::string> & ops) { c.oracle.refuse(ops); },
            "ops"_a)
        .def("decode",
             [](py_context & c, int32_t token) { return vector_of(c.oracle.decode(token)); })
        .def("compress", &compress, py::kw_only(), "method"_a = "text_prior_pivot_merge",
             "important_ratio"_a = 0.1, "recent_ratio"_a = 0.1, "on_device"_a = false,
             "is_text"_a = std::vector<bool>())
        .def(
            "scores",
            [](py_context & c, int32_t layer, bool squares) {
                const std::vector<float> s = c.oracle.scores(layer, squares);
                const int64_t n_head = c.oracle.layer(layer).k.n_head_kv;
                py::array_t<float> out({n_head, static_cast<int64_t>(s.size()) / n_head});
                std::copy(s.begin(), s.end(), out.mutable_data());
                return out;
            },
            "layer"_a, py::kw_only(), "squares"_a = false)
        .def("mask",
             [](py_context & c, const std::vector<py::array_t<int32_t, py::array::c_style>> & kept,
                int32_t n_prompt) {
                 std::vector<std::vector<int32_t>> lists;
                 for (const auto & k : kept) {
                     lists.emplace_back(k.data(), k.data() + k.size());
                 }
                 c.oracle.mask(std::move(lists), n_prompt);
             })
        .def(
            "rows",
            [](py_context & c, int32_t layer, bool values) {
                const lookm::kv_rows & r =
                    values ? c.oracle.layer(layer).v : c.oracle.layer(layer).k;
                const std::vector<float> v = c.oracle.rows(layer, values);
                return array3(v, r.n_head_kv,
                              static_cast<int64_t>(v.size()) / (r.n_head_kv * r.head_dim),
                              r.head_dim);
            },
            "layer"_a, "values"_a)
        .def_property_readonly("n_layer", [](py_context & c) { return c.oracle.n_layer(); })
        .def_property_readonly("devices", [](py_context & c) { return c.oracle.devices(); })
        .def_property_readonly("last_n_kv", [](py_context & c) { return c.oracle.last_n_kv(); })
        .def_property_readonly("n_used", [](py_context & c) { return c.oracle.kv().n_used(); })
        .def_property_readonly("bytes_per_cell",
                               [](py_context & c) { return c.oracle.kv().bytes_per_cell(); })
        .def_property_readonly("pos_max", [](py_context & c) {
            return llama_memory_seq_pos_max(llama_get_memory(c.oracle.raw()), 0);
        });
    m.def(
        "unused_memory",
        [](const std::string & root) {
            const lookm::memory_room room = lookm::unused_memory(root);
            return std::pair(room.bytes, room.limit);
        },
        "root"_a);
}
