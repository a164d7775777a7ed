#pragma once

#include <pybind11/pybind11.h>

// parallel_rounds, parallel_nested: OpenMP as the compiler calls it, just as in ggml's CPU backend.
// Only in builds whose OpenMP is cpp/lookm/threads.
void bind_threads(pybind11::module_ & m);
