#pragma once

#include "llama-cpp.h"

#include <cstdint>
#include <string>

// A small model of one architecture with seeded random weights; no file is read or written.
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
};

llama_model_ptr random_model(const random_model_options & options);
