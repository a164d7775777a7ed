#include "bindings.h"
#include "gil.h"

#include "lookm/files/file_check.h"
#include "lookm/files/file_doubts.h"
#include "lookm/files/file_trial.h"
#include "lookm/model/checked_files.h"

#include <pybind11/stl.h>

namespace py = pybind11;
using namespace py::literals;

void bind_files(py::module_ & m) {
    m.def(
        "check_files",
        [](const std::string & model_path, const std::string & mmproj_path,
           const std::vector<std::string> & command) {
            const without_gil nogil;
            lookm::check_files({model_path, mmproj_path},
                               {command, "check_files=False", [] { with_gil().check_signals(); }});
        },
        "model_path"_a, "mmproj_path"_a, "command"_a);
    m.def("file_doubts", &lookm::doubts_of, "parts"_a);
    m.def(
        "model_parts",
        [](const std::string & model_path) { return lookm::model_files{model_path, ""}.all(); },
        "model_path"_a);
    m.def(
        "try_files",
        [](const std::string & model_path, const std::string & mmproj_path, int pipe) {
            const without_gil nogil;
            lookm::try_files(model_path, mmproj_path, pipe);
        },
        "model_path"_a, "mmproj_path"_a, "pipe"_a);
}
