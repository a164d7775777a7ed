#include "bindings.h"

#include <exception>
#include <stdexcept>

namespace py = pybind11;

py::str text_of(const std::string & bytes) {
    PyObject * text =
        PyUnicode_DecodeUTF8(bytes.data(), static_cast<py::ssize_t>(bytes.size()), "replace");
    if (!text) {
        throw py::error_already_set();
    }
    return py::reinterpret_steal<py::str>(text);
}

// Error messages may quote a file, which can contain any bytes. pybind11 would raise
// UnicodeDecodeError instead of the error.
void bind_errors() {
    py::register_exception_translator([](std::exception_ptr thrown) {
        try {
            std::rethrow_exception(thrown);
        } catch (const std::invalid_argument & error) {
            PyErr_SetObject(PyExc_ValueError, text_of(error.what()).ptr());
        } catch (const py::builtin_exception &) { // also a runtime_error, but pybind11's own
            throw;
        } catch (const std::runtime_error & error) {
            PyErr_SetObject(PyExc_RuntimeError, text_of(error.what()).ptr());
        }
    });
}
