#include "lookm/server/cache_size.h"

#include "lookm/core/bad_argument.h"
#include "lookm/host/log.h"
#include "lookm/server/settings.h"
#include "lookm/session/sized_context.h"

#include "speculative.h"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace lookm::server {

namespace {

constexpr int32_t n_step = 256;  // llama.cpp allocates cells in multiples of it
constexpr int32_t n_least = 128; // cells of a slot

// The number of cells that the cap allows. Reads the model's header only.
int32_t cells_within(const common_params & params) {
    const settings & s = server_settings();
    model_options options;
    options.model_path = params.model.path;
    options.n_ctx = params.n_ctx;
    options.n_batch = params.n_batch;
    options.n_ubatch = params.n_ubatch;
    options.type_k = ggml_type_name(params.cache_type_k);
    options.type_v = ggml_type_name(params.cache_type_v);
    options.flash_attn = params.flash_attn_type == LLAMA_FLASH_ATTN_TYPE_DISABLED ? "off" : "auto";
    options.kv_cells = s.kv_cells;
    options.kv_memory = s.kv_memory;
    options.no_alloc = true;
    const log_kept log;
    device_list devices;
    const llama_model_ptr model = load_model(options, devices);
    // only several slots together can use more than the model's context
    const int64_t n_slot = std::max(params.n_ctx, llama_model_n_ctx_train(model.get()));
    options.n_ctx =
        static_cast<int32_t>(std::min<int64_t>(n_slot * params.n_parallel, most_context_cells));
    return sized_context(model.get(), options).cap();
}

} // namespace

cache_size apply_cap(common_params & params, const cache_size & before) {
    const settings & s = server_settings();
    if (!s.capped()) {
        return {};
    }
    if (params.speculative.has_dft()) {
        throw bad_argument(
            "kv_cells", "a draft model keeps every token of a prompt; expected no --model-draft");
    }
    if (common_speculative_n_max(&params.speculative) > 0) {
        throw bad_argument("kv_cells",
                           "drafts do not fit into a slot's batches; expected no --spec-type");
    }
    if (before.n_cells > 0) {
        params.n_ctx = before.n_tokens;
    }
    const int32_t n_tokens = params.n_ctx;
    const int32_t n_streams = params.kv_unified ? 1 : params.n_parallel;
    const int32_t n_all = cells_within(params) / (n_step * n_streams) * (n_step * n_streams);
    const int32_t n_cells = n_all / params.n_parallel;
    if (n_cells < n_least) {
        const int32_t n_fewest = std::max(n_least * params.n_parallel, n_step * n_streams);
        throw bad_argument("kv_cells",
                           std::to_string(n_all) + " cells fit; expected " +
                               std::to_string((n_fewest + n_step - 1) / n_step * n_step) +
                               " or more for " + std::to_string(params.n_parallel) +
                               " slots (--parallel)");
    }
    params.n_ctx = n_all;
    params.n_batch = std::min(params.n_batch, n_cells / 4);
    params.n_ubatch = std::min(params.n_ubatch, params.n_batch);
    return {n_tokens, n_cells};
}

void check_allocated(llama_context * ctx) {
    const size_t bytes = kv_cache::bytes_allocated(ctx);
    const auto most = static_cast<size_t>(server_settings().kv_memory);
    if (most > 0 && bytes > most) {
        throw bad_argument("kv_memory",
                           std::to_string(most) + " bytes; expected " + std::to_string(bytes) +
                               " or more: what the cache takes with sliding windows and all slots");
    }
}

} // namespace lookm::server
