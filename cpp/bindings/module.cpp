#include "bindings.h"

#include "lookm/core/method.h"

#include <pybind11/stl.h>

#include <string>
#include <vector>

namespace py = pybind11;

PYBIND11_MODULE(_core, m) {
    m.attr("__version__") = LOOKM_VERSION;
    m.attr("llama_cpp_version") = LOOKM_LLAMA_VERSION;
    m.def("methods", [] {
        std::vector<std::string> names;
        for (const lookm::method & method : lookm::methods()) {
            names.emplace_back(method.name);
        }
        return names;
    });
    bind_session(m);
    bind_arrays(m);
}
