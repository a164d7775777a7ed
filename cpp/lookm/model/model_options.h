#pragma once

#include <cstdint>
#include <string>
#include <vector>

struct llama_adapter_lora;

namespace lookm {

// How to load a model and make its context; names and meanings are llama.cpp's.
struct model_options {
    std::string model_path;
    std::string mmproj_path; // "": text only
    int32_t n_ctx = 0;       // 0: what the model was trained with
    int32_t n_batch = 2048;
    int32_t n_ubatch = 512;
    int32_t n_threads = 0;     // 0: one per physical core
    int32_t n_gpu_layers = -1; // -1: all
    std::string rpc_servers;   // "host:port,...": ggml-rpc-servers that also take layers
    // fraction of the layers for each device, in any unit; empty: by their free memory
    std::vector<float> tensor_split;
    std::string split_mode = "layer"; // layer, row, none: all on main_gpu
    int32_t main_gpu = 0;
    bool use_mmap = true;   // map the model's file instead of reading it
    bool use_mlock = false; // keep the weights in memory
    // of the rotary embedding; 0: the model's own
    double rope_freq_base = 0.0;
    double rope_freq_scale = 0.0;
    std::string lora_path; // a LoRA adapter of the language model; "": none
    double lora_scale = 1.0;
    std::string flash_attn = "auto"; // auto, on, off
    std::string type_k = "f16";
    std::string type_v = "f16";
    // types of the cache after the prompt has been read; "": type_k and type_v
    std::string kept_type_k;
    std::string kept_type_v;
    bool verbose = false;
    int64_t compute_bytes = int64_t(64) << 20; // memory limit of scoring and compression
    int32_t kv_cells = 0;                      // the cap: maximum number of cells in use; 0: n_ctx
    int64_t kv_memory = 0; // the cap in bytes of KV buffers; 0: what kv_cells or n_ctx take
    bool shrink = true;    // the KV cache is only as large as its content needs (sized_context)
    // bytes of host memory for beginnings of prompts that may come again (prefixes)
    int64_t prefix_memory = int64_t(1) << 30;
    std::string prefix_type; // type of their K and V in host memory; "": those of the cache
    int64_t image_cache = int64_t(256) << 20; // bytes for encoded images that may come again
    bool swa_full = false; // layers with a sliding window keep all cells, so that any can be reused
    std::string chat_template; // Jinja text or a name that llama.cpp knows; "": the model's own
    bool cpu_only = false;     // ignores all accelerators
    llama_adapter_lora * lora = nullptr; // that of lora_path, once it is loaded; the model owns it
    // only to learn sizes: no weights are loaded, and nothing is allocated for contexts
    bool no_alloc = false;
};

// Calls visit(name, pointer to member) for each field that a user may set.
template <class Visit>
void for_each_field(const model_options * /*unused*/, Visit && visit) {
    visit("model_path", &model_options::model_path);
    visit("mmproj_path", &model_options::mmproj_path);
    visit("n_ctx", &model_options::n_ctx);
    visit("n_batch", &model_options::n_batch);
    visit("n_ubatch", &model_options::n_ubatch);
    visit("n_threads", &model_options::n_threads);
    visit("n_gpu_layers", &model_options::n_gpu_layers);
    visit("rpc_servers", &model_options::rpc_servers);
    visit("tensor_split", &model_options::tensor_split);
    visit("split_mode", &model_options::split_mode);
    visit("main_gpu", &model_options::main_gpu);
    visit("use_mmap", &model_options::use_mmap);
    visit("use_mlock", &model_options::use_mlock);
    visit("rope_freq_base", &model_options::rope_freq_base);
    visit("rope_freq_scale", &model_options::rope_freq_scale);
    visit("lora_path", &model_options::lora_path);
    visit("lora_scale", &model_options::lora_scale);
    visit("flash_attn", &model_options::flash_attn);
    visit("type_k", &model_options::type_k);
    visit("type_v", &model_options::type_v);
    visit("kept_type_k", &model_options::kept_type_k);
    visit("kept_type_v", &model_options::kept_type_v);
    visit("verbose", &model_options::verbose);
    visit("compute_bytes", &model_options::compute_bytes);
    visit("kv_cells", &model_options::kv_cells);
    visit("kv_memory", &model_options::kv_memory);
    visit("shrink", &model_options::shrink);
    visit("prefix_memory", &model_options::prefix_memory);
    visit("prefix_type", &model_options::prefix_type);
    visit("image_cache", &model_options::image_cache);
    visit("swa_full", &model_options::swa_full);
    visit("chat_template", &model_options::chat_template);
}

} // namespace lookm
