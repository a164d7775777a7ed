#pragma once

#include <pybind11/pybind11.h>

#include <functional>
#include <string>

namespace lookm {
struct explanation;
}

// One function for each part of the module.
void bind_options(pybind11::module_ & m);
void bind_method(pybind11::module_ & m);
void bind_chat(pybind11::module_ & m);
void bind_session(pybind11::module_ & m); // after bind_chat()
void bind_devices(pybind11::module_ & m);
void bind_arrays(pybind11::module_ & m);
void bind_plan(pybind11::module_ & m);
void bind_files(pybind11::module_ & m);
void bind_errors(); // turns C++ exceptions into Python's
void bind_exit();   // stops work when the interpreter ends

// A str from bytes that may not be UTF-8; invalid parts become U+FFFD.
pybind11::str text_of(const std::string & bytes);

// Calls apply without the GIL and returns its prompt. Throws std::invalid_argument if that is not
// UTF-8.
pybind11::str templated(const std::function<std::string()> & apply);

// The explanation of a session's last prompt (_core.pyi: Explanation).
pybind11::dict to_dict(const lookm::explanation & e);
