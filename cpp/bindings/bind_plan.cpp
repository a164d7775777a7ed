#include "bindings.h"
#include "gil.h"

#include "lookm/plan/planner.h"
#include "lookm/session/checks.h"

#include <pybind11/stl.h>

#include <memory>
#include <stdexcept>
#include <string>

namespace py = pybind11;
using namespace py::literals;

namespace {

py::dict to_dict(const lookm::stage_bytes & s) {
    return py::dict("weights"_a = s.weights, "encoder_weights"_a = s.encoder_weights,
                    "encoder_compute"_a = s.encoder_compute, "kv"_a = s.kv, "compute"_a = s.compute,
                    "scores"_a = s.scores, "moving"_a = s.moving, "pictures"_a = s.pictures,
                    "total"_a = s.total());
}

py::dict to_dict(const lookm::memory_plan & p, const lookm::prompt_pattern & pattern,
                 int32_t n_images) {
    return py::dict("images"_a = n_images, "tiles_per_image"_a = pattern.n_tiles,
                    "cells_per_image"_a = pattern.image_cells,
                    "encoded_cells_per_image"_a = pattern.encoded_cells,
                    "marks_per_image"_a = pattern.mark_cells, "prompt_cells"_a = p.prompt_cells,
                    "text_cells"_a = p.text_cells, "kept_cells"_a = p.kept_cells,
                    "n_ctx"_a = p.n_ctx, "kv_bytes_full"_a = p.kv_full,
                    "kv_bytes_kept"_a = p.kv_kept, "kv_bytes_capped"_a = p.kv_capped,
                    "preparing"_a = to_dict(p.preparing), "reading"_a = to_dict(p.reading),
                    "answering"_a = to_dict(p.answering), "peak_bytes"_a = p.peak(),
                    "scratch_bytes"_a = p.scratch, "memory_bytes"_a = p.memory, "fits"_a = p.fits(),
                    "most_images"_a = p.most_images,
                    "most_images_in_n_ctx"_a = pattern.most_images(p.n_ctx));
}

py::dict plan(lookm::planner & planner, const std::string & one, const std::string & two,
              const std::pair<uint32_t, uint32_t> & size, const lookm::plan_request & request) {
    if (size.first == 0 || size.second == 0) {
        throw std::invalid_argument("image_size: 0 pixels, expected width and height of 1 or more");
    }
    lookm::memory_plan result;
    {
        const without_gil nogil;
        result = planner.plan(one, two, {size.first, size.second}, request);
    }
    return to_dict(result, planner.pattern(), request.n_images);
}

} // namespace

void bind_plan(py::module_ & m) {
    py::class_<lookm::planner>(m, "Planner")
        .def(py::init([](const lookm::model_options & options) {
                 const without_gil nogil;
                 return std::make_unique<lookm::planner>(options);
             }),
             "options"_a)
        .def_property_readonly("media_marker",
                               [](const lookm::planner & p) { return p.markers().image; })
        .def_property_readonly("context_marker",
                               [](const lookm::planner & p) { return p.markers().context; })
        .def(
            "apply_template",
            [](const lookm::planner & p, const std::string & messages) {
                return templated([&] { return p.apply_template(messages); });
            },
            "messages"_a)
        .def(
            "plan",
            [](lookm::planner & p, const std::string & one, const std::string & two,
               const std::pair<uint32_t, uint32_t> & image_size,
               const lookm::compression & compression, int32_t n_images, int32_t n_answer,
               uint64_t memory) {
                return plan(p, one, two, image_size, {n_images, compression, n_answer, memory});
            },
            "one"_a, "two"_a, "image_size"_a, "compression"_a, py::kw_only(), "n_images"_a,
            "n_answer"_a = 0, "memory"_a = 0);
}
