#include "bindings.h"

#include "lookm/core/method.h"

#include <pybind11/stl.h>

namespace py = pybind11;
using namespace py::literals;

namespace {

const char * name_of(lookm::scorer s) {
    switch (s) {
        case lookm::scorer::none:
            return "none";
        case lookm::scorer::cumulative:
            return "cumulative";
        case lookm::scorer::window:
            break;
    }
    return "window";
}

// The defaults of a method, with the field names of Compression.
py::dict defaults_of(const lookm::method & m) {
    return py::dict("scorer"_a = name_of(m.scorer), "window"_a = m.window,
                    "text_overflow"_a =
                        m.text_overflow == lookm::text_overflow::keep ? "keep" : "evict",
                    "visual_quota"_a = m.visual_quota, "recent_share"_a = m.recent_share);
}

} // namespace

void bind_method(py::module_ & m) {
    m.def("methods", [] {
        py::dict all;
        for (const lookm::method & method : lookm::methods()) {
            all[method.name] = defaults_of(method);
        }
        return all;
    });
}
