#include "lookm/model/adapter.h"

#include "lookm/core/bad_argument.h"
#include "lookm/host/log.h"
#include "lookm/host/memory_room.h"
#include "lookm/host/out_of_memory.h"
#include "lookm/model/model.h"

#include "gguf.h"

#include <cmath>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>

namespace lookm {

namespace {

// Checked here because llama.cpp aborts on them only when it computes with them.
void check_adapter(const std::string & path, const llama_model * model) {
    ggml_context * tensors = nullptr;
    const std::unique_ptr<gguf_context, decltype(&gguf_free)> gguf(
        gguf_init_from_file(path.c_str(), {/*no_alloc =*/true, &tensors}), gguf_free);
    const std::unique_ptr<ggml_context, decltype(&ggml_free)> owner(tensors, ggml_free);
    if (!gguf) {
        throw bad_argument("lora_path", "\"" + path + "\" is damaged: " + last_logged_error());
    }
    char arch[64] = {}, n_expert[32] = {};
    llama_model_meta_val_str(model, "general.architecture", arch, sizeof(arch));
    llama_model_meta_val_str(model, (std::string(arch) + ".expert_count").c_str(), n_expert,
                             sizeof(n_expert));
    for (ggml_tensor * t = ggml_get_first_tensor(tensors); t;
         t = ggml_get_next_tensor(tensors, t)) {
        const bool floats = t->type == GGML_TYPE_F32 || t->type == GGML_TYPE_F16 ||
                            t->type == GGML_TYPE_BF16 || ggml_is_quantized(t->type);
        const bool experts = std::strstr(t->name, "_exps.") != nullptr;
        const std::string n = std::to_string(t->ne[2]);
        if (!floats || ggml_is_empty(t) || t->ne[3] != 1 || n != (experts ? n_expert : "1")) {
            throw bad_argument("lora_path", "\"" + path + "\" has " + t->name + " of type " +
                                                ggml_type_name(t->type) + ", " +
                                                std::to_string(t->ne[0]) + " x " +
                                                std::to_string(t->ne[1]) + " x " + n +
                                                "; expected matrices of floating-point numbers");
        }
    }
}

} // namespace

llama_adapter_lora * load_lora(llama_model * model, const model_options & options) {
    if (options.lora_path.empty()) {
        return nullptr;
    }
    if (!std::isfinite(options.lora_scale)) {
        throw bad_argument("lora_scale",
                           std::to_string(options.lora_scale) + ", expected a finite number");
    }
    check_gguf("lora_path", options.lora_path);
    check_room("lora_path: \"" + options.lora_path + "\"",
               {std::filesystem::file_size(options.lora_path), 0, 0});
    forget_errors();
    check_adapter(options.lora_path, model);
    llama_adapter_lora * lora = llama_adapter_lora_init(model, options.lora_path.c_str());
    if (!lora) {
        throw_logged("lora_path", "cannot use \"" + options.lora_path + "\" with \"" +
                                      options.model_path +
                                      "\"; expected a LoRA adapter made for this model: ");
    }
    if (llama_adapter_get_alora_n_invocation_tokens(lora) > 0) {
        throw bad_argument("lora_path", "\"" + options.lora_path +
                                            "\" is activated by tokens of a prompt (aLoRA); "
                                            "expected an adapter that is always active");
    }
    return lora;
}

} // namespace lookm
