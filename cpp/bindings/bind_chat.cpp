#include "bindings.h"
#include "gil.h"

#include "lookm/prompt/chat_template.h"

#include <pybind11/stl.h>

namespace py = pybind11;
using namespace pybind11::literals;

void bind_chat(py::module_ & m) {
    m.def("chat_templates", &lookm::chat_template::names);

    py::class_<lookm::chat_prompt>(m, "ChatPrompt")
        .def_property_readonly(
            "text",
            [](const lookm::chat_prompt & p) { return templated([&p] { return p.text(); }); })
        .def_property_readonly("stops", &lookm::chat_prompt::stops)
        .def_property_readonly("is_plain", &lookm::chat_prompt::is_plain)
        .def(
            "parse",
            [](const lookm::chat_prompt & p, const std::string & answer, bool is_partial) {
                const without_gil nogil;
                return p.parse(answer, is_partial);
            },
            "answer"_a, "is_partial"_a);
}
