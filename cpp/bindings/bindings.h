#pragma once

#include <pybind11/pybind11.h>

// One function per category; module.cpp calls them in this order.
void bind_method(pybind11::module_ & m);
void bind_session(pybind11::module_ & m);
void bind_devices(pybind11::module_ & m);
void bind_arrays(pybind11::module_ & m);
void bind_plan(pybind11::module_ & m);
