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

constexpr int32_t most_context_cells = 1 << 24; // that make_context takes
constexpr uint64_t encoder_nodes = 8192;        // that mtmd reserves tables for

// Called for every node of the image encoder's graphs.
struct encoder_callback {
    ggml_backend_sched_eval_callback function = nullptr;
    void * user_data = nullptr;
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
    uint64_t kv_bytes_per_token = 0; // of layers that see every earlier token
    std::string reason;              // why it cannot be compressed, "" when it can
};

// All throw std::invalid_argument for a bad option or file, std::runtime_error when memory or a
// device fails. devices becomes the list that the model is loaded onto, and must outlive it.
llama_model_ptr load_model(const model_options & options, device_list & devices);
// Weights that several sessions can hold, with the devices that they lie on.
std::shared_ptr<llama_model> load_shared_model(const model_options & options);
int32_t context_limit(const llama_model * model,
                      const model_options & options); // n_ctx, or the model's own
llama_context_ptr make_context(llama_model * model, const model_options & options);
mtmd::context_ptr load_mmproj(const llama_model * model, const model_options & options,
                              const std::string & marker, const encoder_callback & callback = {});
model_info describe(const model_options & options);

// Type of a K or V cache by its name; argument: what to call it in the error.
ggml_type parse_cache_type(const char * argument, const std::string & name);
int32_t thread_count(const model_options & options);

} // namespace lookm
