#pragma once

#include "llama-cpp.h"

#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

// A value of a model's metadata; vectors are written as arrays of int32 or f32.
using metadata_value =
    std::variant<bool, int64_t, double, std::string, std::vector<int32_t>, std::vector<float>>;

// A small model of one architecture with random weights; no file is read or written.
struct random_model_options {
    std::string arch = "llama";
    int32_t n_layer = 3;
    int32_t n_head = 4;
    int32_t n_head_kv = 2;
    int32_t head_dim = 64;
    int32_t n_vocab = 128;
    int32_t n_ctx = 2048;
    uint32_t seed = 1;
    std::string weight = "f32"; // type of the matrices: f32, f16, q8_0, q4_0
    // Keys that an architecture needs in addition to the above, or with other values; without the
    // architecture's name in front.
    std::vector<std::pair<std::string, metadata_value>> metadata = {};
    bool split_tensors = false;             // split mode tensor, on the CPU only
    ggml_backend_dev_t * devices = nullptr; // as in llama_model_params
    int32_t n_gpu_layers = -1;
};

llama_model_ptr random_model(const random_model_options & options);
