#pragma once

#include "lookm/host/devices.h"
#include "lookm/model/model_options.h"

#include "llama-cpp.h"
#include "mtmd.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace lookm {

constexpr int32_t most_context_cells = 1 << 24; // largest n_ctx
constexpr uint64_t encoder_nodes = 8192;        // graph size that mtmd reserves tables for

// Called for every node of the image encoder's graphs.
struct encoder_callback {
    ggml_backend_sched_eval_callback function = nullptr;
    void * user_data = nullptr;
};

// What matters of a model file for KV compression.
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
    uint64_t kv_bytes_per_token = 0; // only of layers that see every earlier token
    std::string reason;              // why it cannot be compressed; "" if it can
};

// The functions below throw bad_argument for a wrong option or file, out_of_memory, and
// std::runtime_error if llama.cpp or a device fails.

// Loads the model file. devices: out, the devices that hold the model; must outlive it.
llama_model_ptr load_model(const model_options & options, device_list & devices);
// A model that several sessions can share. It keeps its device_list alive.
std::shared_ptr<llama_model> load_shared_model(const model_options & options);
// options.n_ctx, or the length that the model was trained with if that is 0.
int32_t context_limit(const llama_model * model, const model_options & options);
llama_context_ptr make_context(llama_model * model, const model_options & options);
// The image encoder (projector). marker: the text that stands for an image in a prompt.
mtmd::context_ptr load_mmproj(const llama_model * model, const model_options & options,
                              const std::string & marker, const encoder_callback & callback = {});
model_info describe(const model_options & options);

// Throws bad_argument unless the file is there and begins as a GGUF file does, which llama.cpp
// tells only in its log. argument: the name of the argument for the error.
void check_gguf(const char * argument, const std::string & path);

// The type of a K or V cache by its name. argument: the name of the argument for the error.
ggml_type parse_cache_type(const char * argument, const std::string & name);
// options.n_threads, or the number of physical cores if that is 0.
int32_t thread_count(const model_options & options);

} // namespace lookm
