#include "bindings.h"

#include "lookm/core/method.h"

#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <vector>

namespace py = pybind11;
using namespace py::literals;

void bind_method(py::module_ & m) {
    m.attr("default_method") = lookm::default_method;
    m.def("methods", [] {
        std::vector<std::string> names;
        for (const lookm::method & method : lookm::methods()) {
            names.emplace_back(method.name);
        }
        return names;
    });
    py::class_<lookm::method_options>(m, "MethodOptions")
        .def(py::init([](const std::string & fidelity, const std::optional<std::string> & scorer,
                         std::optional<int32_t> window, const std::optional<std::string> & text_overflow,
                         bool merge_keys, bool merge_within_modality, std::optional<double> visual_quota,
                         uint32_t seed) {
                 return lookm::method_options{
                     fidelity, scorer, window, text_overflow, merge_keys, merge_within_modality, visual_quota, seed};
             }),
             py::kw_only(), "fidelity"_a = "paper", "scorer"_a = py::none(), "window"_a = py::none(),
             "text_overflow"_a = py::none(), "merge_keys"_a = true, "merge_within_modality"_a = false,
             "visual_quota"_a = py::none(), "seed"_a = 0);
}
