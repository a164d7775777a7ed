#pragma once

#include <pybind11/pybind11.h>

#include <functional>
#include <string>

namespace lookm {
struct explanation;
}

// One function per category; module.cpp calls them in this order.
void bind_options(pybind11::module_ & m);
void bind_method(pybind11::module_ & m);
void bind_session(pybind11::module_ & m);
void bind_devices(pybind11::module_ & m);
void bind_arrays(pybind11::module_ & m);
void bind_plan(pybind11::module_ & m);
void bind_files(pybind11::module_ & m);
void bind_errors(); // how they become Python's
void bind_exit();   // what happens to work at the end of the interpreter

// Text from a file; what is not UTF-8 in it is shown as U+FFFD.
pybind11::str text_of(const std::string & bytes);

// A prompt by a chat template, which runs without the GIL. Throws std::invalid_argument if it is
// not UTF-8.
pybind11::str templated(const std::function<std::string()> & apply);

// What a session says about its last prompt (_core.pyi: Explanation).
pybind11::dict to_dict(const lookm::explanation & e);
