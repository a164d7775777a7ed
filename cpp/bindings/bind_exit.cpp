#include "bindings.h"
#include "gil.h"

#include <exception>

namespace py = pybind11;

namespace {

// The encoding of an image cannot be interrupted, so it may take this long
constexpr std::chrono::seconds most_at_exit(5);

// Turns work_stopped into SystemExit, which ends the thread silently and frees what it holds.
void translate(std::exception_ptr error) {
    try {
        if (error) {
            std::rethrow_exception(error);
        }
    } catch (const lookm::work_stopped &) {
        PyErr_SetNone(PyExc_SystemExit);
    }
}

void stop_at_exit() {
    lookm::stop_work();
    const py::gil_scoped_release nogil; // so that the threads that are stopped can end
    lookm::wait_for_work(most_at_exit);
}

} // namespace

void bind_exit() {
    py::register_local_exception_translator(translate);
    // called when all threads except daemon threads have ended
    py::module_::import("atexit").attr("register")(
        py::cpp_function(stop_at_exit, py::name("stop_at_exit")));
}
