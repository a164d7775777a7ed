#pragma once

#include "llama-cpp.h"
#include "mtmd.h"

#include <cstdint>
#include <string>

namespace lookm {

// How to load a model and make its context; names and meanings are llama.cpp's.
struct model_options {
    std::string model_path;
    std::string mmproj_path; // "": text only
    int32_t n_ctx = 0;       // 0: what the model was trained with
    int32_t n_batch = 2048;
    int32_t n_ubatch = 512;
    int32_t n_threads = 0;           // 0: one per physical core
    int32_t n_gpu_layers = -1;       // -1: all
    std::string flash_attn = "auto"; // auto, on, off
    std::string type_k = "f16";
    std::string type_v = "f16";
    bool verbose = false;
};

// What a model file holds, as far as KV compression cares.
struct model_info {
    std::string architecture;
    std::string name;
    uint64_t size_bytes = 0;
    uint64_t n_params = 0;
    int32_t n_ctx_train = 0;
    int32_t n_layer = 0;
    int32_t n_head = 0;
    int32_t n_head_kv = 0;
    std::string memory_type;
    uint64_t kv_bytes_per_token = 0; // of the layers that compression can reach
    std::string reason;              // why it cannot be compressed, "" when it can
};

// All throw std::invalid_argument for a bad option or file, std::runtime_error when memory or a device fails.
llama_model_ptr load_model(const model_options & options);
llama_context_ptr make_context(llama_model * model, const model_options & options);
mtmd::context_ptr load_mmproj(const llama_model * model, const model_options & options, const std::string & marker);
model_info describe(const model_options & options);

int32_t thread_count(const model_options & options);

} // namespace lookm
