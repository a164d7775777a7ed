#include "lookm/model/flash_attn.h"

#include "lookm/cache/kv_cache.h"

#include "ggml-backend.h"

#include <algorithm>
#include <string>

namespace lookm {

namespace {

constexpr double most_of_kv = 0.25;

bool is_float(const std::string & type) {
    return type == "f32" || type == "f16" || type == "bf16";
}

bool on_cpu_alone(const model_options & options) {
    if (options.n_gpu_layers == 0) {
        return true;
    }
    for (size_t i = 0; i < ggml_backend_dev_count(); ++i) {
        const auto type = ggml_backend_dev_type(ggml_backend_dev_get(i));
        if (type == GGML_BACKEND_DEVICE_TYPE_GPU || type == GGML_BACKEND_DEVICE_TYPE_IGPU) {
            return false;
        }
    }
    return true;
}

} // namespace

bool better_without_flash(llama_model * model, const model_options & options) {
    const bool gains = options.scored || !is_float(options.type_k);
    if (options.flash_attn != "auto" || !gains || !is_float(options.type_v) ||
        !on_cpu_alone(options)) {
        return false;
    }
    model_options smallest = options;
    smallest.n_ctx = 256;
    smallest.n_batch = 32;
    const llama_context_ptr ctx = make_context(model, smallest);
    if (!kv_cache::unsupported(ctx.get()).empty()) {
        return false;
    }
    const int32_t n_ubatch = std::min(options.n_ubatch, options.n_batch);
    const double probabilities = 4.0 * n_ubatch * llama_model_n_head(model);
    return probabilities <= most_of_kv * static_cast<double>(kv_cache(ctx.get()).bytes_per_cell());
}

} // namespace lookm
