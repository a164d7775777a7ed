#pragma once

#include <pybind11/pybind11.h>

// Binds parallel_rounds and parallel_nested, which use OpenMP as ggml's CPU backend does. Only in
// builds in which cpp/lookm/threads replaces libgomp.
void bind_threads(pybind11::module_ & m);
