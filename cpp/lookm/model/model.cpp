#include "lookm/model/model.h"

#include "lookm/cache/kv_cache.h"
#include "lookm/core/bad_argument.h"
#include "lookm/host/at_work.h"
#include "lookm/host/log.h"
#include "lookm/host/memory_room.h"
#include "lookm/host/out_of_memory.h"
#include "lookm/model/encoder_no_alloc.h"

#include "common.h"
#include "gguf.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <memory>
#include <stdexcept>

namespace lookm {

namespace {

constexpr ggml_type cache_types[] = {GGML_TYPE_F32,  GGML_TYPE_F16,  GGML_TYPE_BF16,
                                     GGML_TYPE_Q8_0, GGML_TYPE_Q4_0, GGML_TYPE_Q4_1,
                                     GGML_TYPE_Q5_0, GGML_TYPE_Q5_1, GGML_TYPE_IQ4_NL};

llama_flash_attn_type parse_flash_attn(const std::string & name) {
    if (name == "auto") {
        return LLAMA_FLASH_ATTN_TYPE_AUTO;
    }
    if (name == "on" || name == "off") {
        return name == "on" ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
    }
    throw bad_argument("flash_attn", "\"" + name + "\" is unknown; expected auto, on or off");
}

llama_split_mode parse_split_mode(const std::string & name) {
    if (name == "layer" || name == "row") {
        return name == "row" ? LLAMA_SPLIT_MODE_ROW : LLAMA_SPLIT_MODE_LAYER;
    }
    if (name != "none") {
        throw bad_argument("split_mode",
                           "\"" + name + "\" is unknown; expected layer, row or none");
    }
    return LLAMA_SPLIT_MODE_NONE;
}

// The default is llama.cpp's own choice, which maps the file where that is possible.
llama_load_mode load_mode_of(const model_options & options) {
    if (options.use_mlock) {
        return options.use_mmap ? LLAMA_LOAD_MODE_MMAP_MLOCK : LLAMA_LOAD_MODE_MLOCK;
    }
    return options.use_mmap ? llama_model_default_params().load_mode : LLAMA_LOAD_MODE_NONE;
}

float checked_rope(const char * argument, double value) {
    if (!(value >= 0.0 && value <= 1e12)) {
        throw bad_argument(argument,
                           std::to_string(value) + " is outside [0, 1e12]; 0 is the model's own");
    }
    return static_cast<float>(value);
}

void check_range(const char * argument, int32_t value, int32_t low, int32_t high) {
    if (value < low || value > high) {
        throw bad_argument(argument, std::to_string(value) + " is outside [" + std::to_string(low) +
                                         ", " + std::to_string(high) + "]");
    }
}

// Checked here because llama.cpp aborts on an impossible number of layers.
void check_metadata(const std::string & path) {
    const std::unique_ptr<gguf_context, decltype(&gguf_free)> gguf(
        gguf_init_from_file(path.c_str(), {/*no_alloc =*/true, nullptr}), gguf_free);
    if (!gguf) {
        throw bad_argument("model_path", "\"" + path + "\" is damaged: " + last_logged_error());
    }
    const int64_t arch = gguf_find_key(gguf.get(), "general.architecture");
    if (arch < 0 || gguf_get_kv_type(gguf.get(), arch) != GGUF_TYPE_STRING) {
        throw bad_argument("model_path",
                           "\"" + path +
                               "\" has no general.architecture; expected a language model");
    }
    const std::string key = std::string(gguf_get_val_str(gguf.get(), arch)) + ".block_count";
    const int64_t n_layer = gguf_find_key(gguf.get(), key.c_str());
    if (n_layer >= 0 && gguf_get_kv_type(gguf.get(), n_layer) == GGUF_TYPE_UINT32) {
        const uint32_t n = gguf_get_val_u32(gguf.get(), n_layer);
        if (n == 0 || n > 512) {
            throw bad_argument("model_path", "\"" + path + "\" has " + key + " " +
                                                 std::to_string(n) + ", expected 1 to 512");
        }
    }
}

// One share for each of llama.cpp's possible devices, 0 for those that the user did not give.
std::vector<float> checked_split(const std::vector<float> & shares, const device_list & devices) {
    if (shares.empty()) {
        return {};
    }
    const size_t n_devices = devices.accelerators().size();
    std::string text;
    float sum = 0.0f;
    for (const float share : shares) {
        text += (text.empty() ? "" : ", ") + std::to_string(share);
        sum += share;
    }
    if (shares.size() > n_devices) {
        throw bad_argument("tensor_split", "[" + text + "] for " + std::to_string(n_devices) +
                                               " devices, expected at most one share for each");
    }
    const bool shares_ok =
        std::all_of(shares.begin(), shares.end(), [](float s) { return s >= 0.0f; });
    if (!shares_ok || !std::isfinite(sum) || sum <= 0.0f) {
        throw bad_argument("tensor_split",
                           "[" + text + "], expected shares of 0 or more, not all 0");
    }
    std::vector<float> all = shares;
    all.resize(llama_max_devices(), 0.0f);
    return all;
}

} // namespace

void check_gguf(const char * argument, const std::string & path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) {
        throw bad_argument(argument, "cannot open \"" + path + "\"; expected a GGUF file");
    }
    char magic[4] = {};
    file.read(magic, sizeof(magic));
    if (!file || std::memcmp(magic, "GGUF", sizeof(magic)) != 0) {
        throw bad_argument(argument, "\"" + path + "\" is not a GGUF file");
    }
}

ggml_type parse_cache_type(const char * argument, const std::string & name) {
    std::string known;
    for (const ggml_type t : cache_types) {
        if (name == ggml_type_name(t)) {
            return t;
        }
        known += (known.empty() ? "" : ", ") + std::string(ggml_type_name(t));
    }
    throw bad_argument(argument, "\"" + name + "\" is unknown; expected one of " + known);
}

int32_t thread_count(const model_options & options) {
    if (options.n_threads > 0) {
        return options.n_threads;
    }
    return std::max(1, common_cpu_get_num_math()); // physical performance cores
}

llama_model_ptr load_model(const model_options & options, device_list & devices) {
    set_verbose(options.verbose);
    start_backends();
    check_range("n_gpu_layers", options.n_gpu_layers, -1, 1 << 20);
    check_gguf("model_path", options.model_path);
    devices = options.cpu_only ? device_list::none() : device_list(options.rpc_servers);
    const std::vector<float> split = checked_split(options.tensor_split, devices);
    llama_model_params params = llama_model_default_params();
    params.devices = devices.data();
    params.tensor_split = split.empty() ? nullptr : split.data();
    params.n_gpu_layers = options.n_gpu_layers;
    params.split_mode = parse_split_mode(options.split_mode);
    // llama.cpp takes a number that no device has for a fault of its own
    check_range("main_gpu", options.main_gpu, 0,
                std::max<int32_t>(0, static_cast<int32_t>(devices.accelerators().size()) - 1));
    params.main_gpu = options.main_gpu;
    params.load_mode = load_mode_of(options);
    if (options.no_alloc) {
        params.no_alloc = true;
        params.load_mode = LLAMA_LOAD_MODE_NONE; // there is nothing to map
    }
    params.progress_callback = [](float, void *) { return !work_is_stopped(); };
    forget_errors();
    check_metadata(options.model_path);
    llama_model_ptr model{llama_model_load_from_file(options.model_path.c_str(), params)};
    check_work_goes_on();
    if (!model) {
        throw_logged("model_path",
                     "cannot load \"" + options.model_path + "\" as a language model: ");
    }
    return model;
}

std::shared_ptr<llama_model> load_shared_model(const model_options & options) {
    const auto devices = std::make_shared<device_list>();
    llama_model_ptr model = load_model(options, *devices);
    return {model.release(), [devices](llama_model * m) { llama_model_free(m); }};
}

int32_t context_limit(const llama_model * model, const model_options & options) {
    check_range("n_ctx", options.n_ctx, 0, most_context_cells);
    const int32_t n_ctx = options.n_ctx > 0 ? options.n_ctx : llama_model_n_ctx_train(model);
    if (n_ctx <= 0) {
        throw bad_argument("n_ctx", "0 means the length that the model was trained with, but \"" +
                                        options.model_path + "\" has none; expected 1 or more");
    }
    return n_ctx;
}

llama_context_ptr make_context(llama_model * model, const model_options & options) {
    check_range("n_ctx", options.n_ctx, 0, most_context_cells);
    check_range("n_batch", options.n_batch, 1, 1 << 20);
    check_range("n_ubatch", options.n_ubatch, 1, 1 << 20);
    check_range("n_threads", options.n_threads, 0, 512);
    llama_context_params params = llama_context_default_params();
    params.n_ctx = options.n_ctx;
    params.n_batch = options.n_batch;
    params.n_ubatch = std::min(options.n_ubatch, options.n_batch);
    params.n_seq_max = 1;
    params.swa_full = options.swa_full;
    params.n_threads = thread_count(options);
    params.n_threads_batch = params.n_threads;
    params.flash_attn_type = parse_flash_attn(options.flash_attn);
    params.type_k = parse_cache_type("type_k", options.type_k);
    params.type_v = parse_cache_type("type_v", options.type_v);
    params.rope_freq_base = checked_rope("rope_freq_base", options.rope_freq_base);
    params.rope_freq_scale = checked_rope("rope_freq_scale", options.rope_freq_scale);
    if (ggml_is_quantized(params.type_v) && options.flash_attn == "off") {
        throw bad_argument("type_v",
                           "\"" + options.type_v + "\" needs flash_attn on or auto, not off");
    }
    kv_cache::check_types(model, params.type_k, params.type_v);
    forget_errors();
    llama_context_ptr ctx{llama_init_from_model(model, params)};
    if (!ctx) {
        throw_logged<std::runtime_error>("cannot make a context of n_ctx " +
                                         std::to_string(options.n_ctx) + ", type_k " +
                                         options.type_k + ", type_v " + options.type_v + ": ");
    }
    if (options.lora) {
        llama_adapter_lora * lora = options.lora;
        auto scale = static_cast<float>(options.lora_scale);
        llama_set_adapters_lora(ctx.get(), &lora, 1, &scale);
    }
    return ctx;
}

mtmd::context_ptr load_mmproj(const llama_model * model, const model_options & options,
                              const std::string & marker, const encoder_callback & callback) {
    if (options.mmproj_path.empty()) {
        return nullptr;
    }
    check_gguf("mmproj", options.mmproj_path);
    check_room("mmproj: \"" + options.mmproj_path + "\"", {0, 0, graph_tables(encoder_nodes)});
    mtmd_context_params params = mtmd_context_params_default();
    params.use_gpu = options.n_gpu_layers != 0;
    params.print_timings = false;
    params.n_threads = thread_count(options);
    params.flash_attn_type = parse_flash_attn(options.flash_attn);
    params.media_marker = marker.c_str();
    params.warmup = false;
    params.cb_eval = callback.function;
    params.cb_eval_user_data = callback.user_data;
    params.progress_callback = [](float, void *) { return !work_is_stopped(); };
    forget_errors();
    const encoder_no_alloc_scope scope(options.no_alloc);
    mtmd::context_ptr ctx{mtmd_init_from_file(options.mmproj_path.c_str(), model, params)};
    check_work_goes_on();
    if (!ctx) {
        throw_logged("mmproj", "cannot use \"" + options.mmproj_path + "\" with \"" +
                                   options.model_path +
                                   "\"; expected the multimodal projector made for this model: ");
    }
    if (!mtmd_support_vision(ctx.get())) {
        throw bad_argument("mmproj", "\"" + options.mmproj_path + "\" encodes no images");
    }
    return ctx;
}

model_info describe(const model_options & options) {
    device_list devices;
    const llama_model_ptr model = load_model(options, devices);
    const auto meta = [&](const char * key) {
        char text[256] = {};
        return llama_model_meta_val_str(model.get(), key, text, sizeof(text)) > 0
                   ? std::string(text)
                   : std::string();
    };
    model_info info;
    info.architecture = meta("general.architecture");
    info.name = meta("general.name");
    info.size_bytes = llama_model_size(model.get());
    info.n_params = llama_model_n_params(model.get());
    info.n_ctx_train = llama_model_n_ctx_train(model.get());
    info.n_layer = llama_model_n_layer(model.get());
    info.n_head = llama_model_n_head(model.get());
    info.n_head_kv = llama_model_n_head_kv(model.get());

    model_options smallest = options;
    smallest.n_ctx = 256;
    smallest.n_batch = 32;
    const llama_context_ptr ctx = make_context(model.get(), smallest);
    info.memory_type = kv_cache::memory_type(ctx.get());
    info.reason = kv_cache::unsupported(ctx.get());
    info.kv_bytes_per_token = kv_cache::bytes_per_token(ctx.get());
    return info;
}

} // namespace lookm
