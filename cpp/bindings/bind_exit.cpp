#include "bindings.h"
#include "gil.h"

#include <exception>

namespace py = pybind11;

namespace {

constexpr std::chrono::seconds
    most_at_exit(5); // an image on its way through the encoder is not interrupted

// Of work that stop_work() has stopped: it ends its thread, silently, and lets go of what the
// thread holds.
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
    const py::gil_scoped_release nogil; // this is the one thread that the interpreter waits for
    lookm::wait_for_work(most_at_exit);
}

} // namespace

void bind_exit() {
    py::register_local_exception_translator(translate);
    // called when all threads but the daemons have ended
    py::module_::import("atexit").attr("register")(
        py::cpp_function(stop_at_exit, py::name("stop_at_exit")));
}
