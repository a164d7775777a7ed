#pragma once

#include "lookm/llama/devices.h"

#include "llama-cpp.h"
#include "mtmd.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

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
    std::string rpc_servers;         // "host:port,...": layers on ggml-rpc-servers, too
    std::vector<float> tensor_split; // share of the layers for each device; empty: by their free memory
    std::string flash_attn = "auto"; // auto, on, off
    std::string type_k = "f16";
    std::string type_v = "f16";
    std::string kept_type_k; // of the cache that an answer is given from, once the prompt is read; "": type_k
    std::string kept_type_v;
    bool verbose = false;
    int64_t compute_bytes = int64_t(64) << 20; // what scoring and compression may take (compressor)
    bool scored = false;       // prompts will be scored by all their queries; flash_attn "auto" takes it into account
    int32_t kv_cells = 0;      // most cells in use at once; 0: n_ctx
    int64_t kv_memory = 0;     // most bytes of KV buffers at once; 0: what kv_cells or n_ctx takes
    bool shrink = true;        // contexts no larger than what is in them (sized_context)
    bool swa_full = false;     // sliding windows' layers keep all cells, and can go back to any token
    std::string chat_template; // Jinja text or a name that llama.cpp knows; "": the model's own
    bool cpu_only = false;     // whatever accelerators there are
    bool no_alloc = false;     // only to learn sizes: no weights are loaded, nothing is allocated for contexts
};

constexpr uint64_t encoder_nodes = 8192; // that mtmd reserves tables for

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

// All throw std::invalid_argument for a bad option or file, std::runtime_error when memory or a device fails.
// devices becomes the list that the model is loaded onto, and must outlive it.
llama_model_ptr load_model(const model_options & options, device_list & devices);
// Weights that several sessions can hold, with the devices that they lie on.
std::shared_ptr<llama_model> load_shared_model(const model_options & options);
int32_t context_limit(const llama_model * model, const model_options & options); // n_ctx, or the model's own
llama_context_ptr make_context(llama_model * model, const model_options & options);
mtmd::context_ptr load_mmproj(const llama_model * model, const model_options & options, const std::string & marker,
                              const encoder_callback & callback = {});
model_info describe(const model_options & options);

// Type of a K or V cache by its name; argument: what to call it in the error.
ggml_type parse_cache_type(const char * argument, const std::string & name);
int32_t thread_count(const model_options & options);

} // namespace lookm
