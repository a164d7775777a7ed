#include "bindings.h"
#include "fields.h"
#include "gil.h"

#include "lookm/model/model.h"
#include "lookm/session/checks.h"
#include "lookm/session/explanation.h"
#include "lookm/session/session.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>

namespace py = pybind11;
using namespace py::literals;

namespace {

using image_array = py::array_t<uint8_t, py::array::c_style>;

// What an image is recognized by when it comes again; its size is part of mtmd's chunks.
std::string digest_of(const image_array & pixels) {
    const py::object digest =
        py::module_::import("hashlib").attr("blake2b")(pixels, "digest_size"_a = 32);
    return py::str(digest.attr("hexdigest")());
}

// Picture.known() (images.py)
std::optional<lookm::known_image> known(const with_gil & python, const py::object & picture) {
    const py::object found = python.call(picture.attr("known"), nullptr);
    if (found.is_none()) {
        return std::nullopt;
    }
    auto [id, width, height] = found.cast<std::tuple<std::string, uint32_t, uint32_t>>();
    return lookm::known_image{std::move(id), {width, height}};
}

// An array, a function that returns one, or a Picture. Called in the middle of work without the
// GIL.
lookm::image_source source(const py::object & image) {
    const bool is_picture = py::hasattr(image, "known");
    const auto load = [&image, is_picture] {
        const with_gil python;
        const py::object pixels_of = is_picture ? py::object(image.attr("pixels")) : image;
        const auto pixels = image_array::ensure(
            PyCallable_Check(pixels_of.ptr()) != 0 ? python.call(pixels_of, nullptr) : pixels_of);
        if (!pixels || pixels.ndim() != 3 || pixels.shape(2) != 3 || pixels.size() == 0) {
            PyErr_Clear();
            throw std::invalid_argument("images: expected RGB arrays of shape [height, width, 3]");
        }
        mtmd::bitmap bitmap(static_cast<uint32_t>(pixels.shape(1)),
                            static_cast<uint32_t>(pixels.shape(0)), pixels.data());
        const std::string id = digest_of(pixels);
        bitmap.set_id(id.c_str());
        if (is_picture) {
            python.call(image.attr("remember"), "s", id.c_str());
        }
        return bitmap;
    };
    if (!is_picture) {
        return load;
    }
    return {load, [&image] {
                const with_gil python;
                return known(python, image);
            }};
}

const char * name_of(lookm::phase p) {
    switch (p) {
        case lookm::phase::encode:
            return "encode";
        case lookm::phase::prefill:
            return "prefill";
        case lookm::phase::compress:
            break;
    }
    return "compress";
}

// Runs in the middle of work without the GIL: takes it to let signals and the user's function stop
// the work.
lookm::progress_fn reporter(const py::object & progress) {
    return [&progress](lookm::phase phase, int done, int total) {
        const with_gil python;
        python.check_signals();
        if (!progress.is_none()) {
            python.call(progress, "sii", name_of(phase), done, total);
        }
    };
}

py::dict to_dict(const lookm::session_stats & s) {
    const double ratio = s.prompt_cells ? static_cast<double>(s.kept_cells) / s.prompt_cells : 1.0;
    return py::dict(
        "prompt_cells"_a = s.prompt_cells, "text_cells"_a = s.text_cells,
        "image_cells"_a = s.image_cells, "encoded_cells"_a = s.encoded_cells,
        "context_cells"_a = s.context_cells, "reused_cells"_a = s.reused_cells,
        "reused_image_cells"_a = s.reused_image_cells, "squeezed_cells"_a = s.squeezed_cells,
        "kept_cells"_a = s.kept_cells, "kept_text_cells"_a = s.kept_of.text,
        "kept_image_cells"_a = s.kept_of.image, "kept_context_cells"_a = s.kept_of.context,
        "kv_ratio"_a = ratio, "chosen_ratio"_a = s.chosen_ratio,
        "attention_held"_a = s.attention_held, "method"_a = s.method, "note"_a = s.note,
        "kv_bytes_used_before"_a = s.bytes_used_before,
        "kv_bytes_used_after"_a = s.bytes_used_after,
        "kv_bytes_allocated_before"_a = s.bytes_allocated_before,
        "kv_bytes_allocated_after"_a = s.bytes_allocated_after,
        "compress_bytes_peak"_a = s.compress_bytes_peak, "encode_seconds"_a = s.encode_seconds,
        "prune_seconds"_a = s.prune_seconds, "prefill_seconds"_a = s.prefill_seconds,
        "score_seconds"_a = s.score_seconds, "compress_seconds"_a = s.compress_seconds,
        "move_seconds"_a = s.move_seconds, "decode_seconds"_a = s.decode_seconds,
        "encode_images"_a = s.encode_images, "decode_tokens"_a = s.decode_tokens);
}

// Owns a session until close(); every call on a closed one says so, and on one that a fork has left
// behind.
class py_session {
  public:
    py_session(const lookm::model_options & options, const py_session * weights_of)
        : session_(weights_of ? std::make_unique<lookm::session>(options, weights_of->get())
                              : std::make_unique<lookm::session>(options)) {}
    ~py_session() { close(); }

    lookm::session & get() const {
        if (!session_) {
            throw std::invalid_argument("session: it is closed");
        }
        session_->guard().check();
        return *session_;
    }
    void close() {
        if (session_ && !session_->guard().may_be_freed()) {
            static_cast<void>(
                session_.release()); // it would tell a device what the parent goes on with
        }
        session_.reset();
    }

  private:
    std::unique_ptr<lookm::session> session_;
};

// compression: of the prompts to come, if it is known; what is refused depends on it.
std::unique_ptr<py_session> make_session(const lookm::model_options & options,
                                         const std::optional<lookm::compression> & compression,
                                         const py_session * weights_of) {
    const without_gil nogil;
    auto made = std::make_unique<py_session>(options, weights_of);
    if (compression) {
        made->get().check(*compression);
    }
    return made;
}

py::bytes bytes_of(const std::vector<uint8_t> & state) {
    return {reinterpret_cast<const char *>(state.data()), state.size()};
}

// how: session::prefill, converse, read, keep_prefix, prefix_state or n_cells_of
template <class Reading>
void def_reading(py::class_<py_session> & bound, const char * name, Reading how) {
    bound.def(
        name,
        [how](const py_session & self, const std::string & prompt,
              const std::vector<py::object> & images, const lookm::compression & compression,
              const std::vector<std::string> & contexts, int32_t n_answer,
              const py::object & progress, bool explain, bool reuse) {
            if (!progress.is_none() && PyCallable_Check(progress.ptr()) == 0) {
                throw py::value_error("progress: " + std::string(py::repr(progress)) +
                                      ", expected a function");
            }
            std::vector<lookm::image_source> sources;
            for (const py::object & image : images) {
                sources.push_back(source(image));
            }
            lookm::session & session = self.get();
            const lookm::progress_fn report = reporter(progress);
            const auto read = [&] {
                const without_gil nogil;
                return (session.*how)(
                    {prompt, sources, contexts, compression, n_answer, report, explain, reuse});
            };
            if constexpr (std::is_same_v<decltype(read()), std::vector<uint8_t>>) {
                return bytes_of(read());
            } else {
                return read();
            }
        },
        "prompt"_a, "images"_a, "compression"_a, py::kw_only(),
        "contexts"_a = std::vector<std::string>(), "n_answer"_a = 0, "progress"_a = py::none(),
        "explain"_a = false, "reuse"_a = false);
}

// Floats as an array of this shape, without a copy.
py::array_t<float> array_of(std::vector<float> values, const std::vector<py::ssize_t> & shape) {
    auto owned = std::make_unique<std::vector<float>>(std::move(values));
    const float * const data = owned->data();
    const py::capsule owner(owned.release(),
                            [](void * v) { delete static_cast<std::vector<float> *>(v); });
    return py::array_t<float>(shape, data, owner);
}

py::array_t<float> distributions(const py_session & self, const std::vector<int32_t> & tokens) {
    std::vector<float> found;
    lookm::session & session = self.get();
    {
        const without_gil nogil;
        found = session.distributions(tokens);
    }
    const auto n = static_cast<py::ssize_t>(tokens.size());
    return array_of(std::move(found), {n, session.n_vocab()});
}

py::array_t<float> log_probs(const py_session & self) {
    std::vector<float> found = self.get().log_probs();
    const auto n = static_cast<py::ssize_t>(found.size());
    return array_of(std::move(found), {n});
}

py::object next(const py_session & self) {
    std::optional<std::string> piece;
    {
        lookm::session & session = self.get();
        const without_gil nogil;
        piece = session.next();
    }
    return piece ? py::object(py::bytes(*piece)) : py::object(py::none());
}

py::dict info_of(const lookm::model_options & options) {
    lookm::model_info info;
    {
        const without_gil nogil;
        info = lookm::describe(options);
    }
    return py::dict("architecture"_a = text_of(info.architecture), "name"_a = text_of(info.name),
                    "size_bytes"_a = info.size_bytes, "n_params"_a = info.n_params,
                    "n_ctx_train"_a = info.n_ctx_train, "n_layer"_a = info.n_layer,
                    "n_head"_a = info.n_head, "n_head_kv"_a = info.n_head_kv,
                    "memory_type"_a = info.memory_type,
                    "kv_bytes_per_token"_a = info.kv_bytes_per_token,
                    "supported"_a = info.reason.empty(), "reason"_a = text_of(info.reason));
}

} // namespace

py::str templated(const std::function<std::string()> & apply) {
    std::string prompt;
    {
        const without_gil nogil;
        prompt = apply();
    }
    PyObject * text =
        PyUnicode_DecodeUTF8(prompt.data(), static_cast<py::ssize_t>(prompt.size()), nullptr);
    if (!text) {
        PyErr_Clear();
        throw std::invalid_argument(
            "messages: the chat template makes text of them that is not UTF-8");
    }
    return py::reinterpret_steal<py::str>(text);
}

void bind_session(py::module_ & m) {
    m.def(
        "check_compression", [](const lookm::compression & how) { lookm::checked(how); },
        "compression"_a);
    m.def(
        "model_info",
        [](const std::string & model_path, const std::string & type_k, const std::string & type_v) {
            lookm::model_options o;
            o.model_path = model_path;
            o.type_k = type_k;
            o.type_v = type_v;
            return info_of(o);
        },
        "model_path"_a, "type_k"_a = "f16", "type_v"_a = "f16");

    py::class_<py_session> bound(m, "Session");
    def_reading(bound, "prefill", &lookm::session::prefill);
    def_reading(bound, "converse", &lookm::session::converse);
    def_reading(bound, "converse_anew", &lookm::session::converse_anew);
    def_reading(bound, "read", &lookm::session::read);
    def_reading(bound, "keep_prefix", &lookm::session::keep_prefix);
    def_reading(bound, "prefix_state", &lookm::session::prefix_state);
    def_reading(bound, "n_cells_of", &lookm::session::n_cells_of);
    bound
        .def(py::init(&make_session), "options"_a, "compression"_a = py::none(), py::kw_only(),
             "weights_of"_a = py::none())
        .def(
            "check_sampling",
            [](const py_session & s, const lookm::chat_prompt * prompt, const py::kwargs & given) {
                s.get().check(from_fields<lookm::sampling_options>(given), prompt);
            },
            "prompt"_a = py::none())
        .def_property_readonly("flash_attn",
                               [](const py_session & s) { return s.get().flash_attn(); })
        .def_property_readonly("media_marker",
                               [](const py_session & s) { return s.get().markers().image; })
        .def_property_readonly("context_marker",
                               [](const py_session & s) { return s.get().markers().context; })
        .def_property_readonly("n_ctx", [](const py_session & s) { return s.get().n_ctx(); })
        .def_property_readonly("kv_cells", [](const py_session & s) { return s.get().kv_cells(); })
        .def_property_readonly("model_name",
                               [](const py_session & s) { return text_of(s.get().model_name()); })
        .def(
            "apply_template",
            [](const py_session & s, const std::string & messages) {
                return templated(
                    [&, &session = s.get()] { return session.apply_template(messages); });
            },
            "messages"_a)
        .def("chat_prompt",
             [](const py_session & s, const py::kwargs & given) {
                 const auto request = from_fields<lookm::chat_request>(given);
                 const lookm::session & session = s.get();
                 const without_gil nogil;
                 return session.prompt_of(request);
             })
        .def("check_template", [](const py_session & s) { s.get().check_template(); })
        .def(
            "check", [](const py_session & s, const lookm::compression & c) { s.get().check(c); },
            "compression"_a)
        .def_property_readonly("prefix_type",
                               [](const py_session & s) { return s.get().prefix_type(); })
        .def_property_readonly("prefix_bytes",
                               [](const py_session & s) { return s.get().kept().bytes(); })
        .def_property_readonly("prefix_count",
                               [](const py_session & s) { return s.get().kept().size(); })
        .def_property_readonly("talking", [](const py_session & s) { return s.get().talking(); })
        .def_property_readonly("epoch", [](const py_session & s) { return s.get().epoch(); })
        .def("state", [](const py_session & s) { return bytes_of(s.get().state()); })
        .def(
            "restore_prefix",
            [](const py_session & s, const std::string & state) {
                const auto * bytes = reinterpret_cast<const uint8_t *>(state.data());
                return s.get().restore_prefix({bytes, state.size()});
            },
            "state"_a)
        .def(
            "restore",
            [](const py_session & s, const std::string & state,
               const lookm::compression & compression) {
                const auto * bytes = reinterpret_cast<const uint8_t *>(state.data());
                s.get().restore({bytes, state.size()}, compression);
            },
            "state"_a, "compression"_a)
        .def(
            "start",
            [](const py_session & s, const lookm::chat_prompt * prompt, const py::kwargs & given) {
                s.get().start(from_fields<lookm::sampling_options>(given), prompt);
            },
            "prompt"_a = py::none())
        .def("next", &next)
        .def_property_readonly("token", [](const py_session & s) { return s.get().token(); })
        .def("log_probs", &log_probs)
        .def("distributions", &distributions, "tokens"_a)
        .def(
            "trial",
            [](const py_session & s, const lookm::compression & compression) {
                lookm::session & session = s.get();
                const without_gil nogil;
                session.trial(compression);
            },
            "compression"_a)
        .def(
            "follow",
            [](const py_session & s, const std::string & text) {
                lookm::session & session = s.get();
                const without_gil nogil;
                session.follow(text);
            },
            "text"_a)
        .def(
            "tokens_of",
            [](const py_session & s, const std::string & text, bool control) {
                return s.get().tokens_of(text, control);
            },
            "text"_a, "control"_a = false)
        .def_property_readonly("begin_token",
                               [](const py_session & s) { return s.get().begin_token(); })
        .def(
            "piece_of",
            [](const py_session & s, int32_t token) { return py::bytes(s.get().piece_of(token)); },
            "token"_a)
        .def(
            "text_of",
            [](const py_session & s, const std::vector<int32_t> & tokens, bool control) {
                return py::bytes(s.get().text_of(tokens, control));
            },
            "tokens"_a, "control"_a = false)
        .def_property_readonly("can_continue",
                               [](const py_session & s) { return s.get().can_continue(); })
        .def_property_readonly("stats",
                               [](const py_session & s) { return to_dict(s.get().stats()); })
        .def_property_readonly("explanation",
                               [](const py_session & s) -> py::object {
                                   const auto & found = s.get().explained();
                                   return found ? py::object(to_dict(*found))
                                                : py::object(py::none());
                               })
        .def("close", &py_session::close);
}
