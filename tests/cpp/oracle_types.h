#pragma once

#include "lookm/host/devices.h"

#include "llama-cpp.h"

#include <pybind11/pybind11.h>

struct py_model {
    lookm::device_list devices; // must outlive the model
    llama_model_ptr model;
};

ggml_type parse_type(const std::string & name);

void bind_sequences(pybind11::module_ & m);
