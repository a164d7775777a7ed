#include "lookm/server/start_memory.h"

#include "lookm/cache/kv_cache.h"
#include "lookm/host/log.h"
#include "lookm/host/out_of_memory.h"
#include "lookm/server/cache_size.h"
#include "lookm/server/flags.h"
#include "lookm/server/settings.h"
#include "lookm/session/memory_check.h"

#include "fit.h"
#include "llama-cpp.h"
#include "log.h"

#include <algorithm>
#include <stdexcept>
#include <thread>

#if !defined(_WIN32)
#include <pthread.h>
#endif

namespace lookm::server {

namespace {

// Largest context, in cells, that is planned as it is: a planned context allocates nothing but
// tables of its cells. The size of a larger one is extrapolated from this one and half of it.
constexpr uint32_t most_planned = 1 << 18;

// Keeps the plan's messages out of llama-server's log.
class silence {
  public:
    silence() {
        common_log_pause(common_log_main());
        set_verbose(false);
        forget_errors();
    }
    ~silence() { common_log_resume(common_log_main()); }
    silence(const silence &) = delete;
    silence & operator=(const silence &) = delete;

  private:
    log_kept kept_;
};

// Changes parameters as llama-server does before it loads the model.
void complete(common_params & params) {
    if (params.embedding) {
        params.n_batch = std::min(params.n_batch, params.n_ubatch);
    }
    if (params.n_parallel < 0) {
        params.n_parallel = 4;
        params.kv_unified = true;
    }
    const bool whole_model = static_cast<uint32_t>(params.fit_params_min_ctx) == UINT32_MAX; // -c 0
    if (params.kv_unified_per_slot > 0 && params.n_ctx == 0 && !whole_model) {
        params.n_ctx = params.n_parallel * params.kv_unified_per_slot;
    }
}

bool is_mapped(llama_load_mode mode) {
    return mode != LLAMA_LOAD_MODE_NONE && mode != LLAMA_LOAD_MODE_MLOCK &&
           mode != LLAMA_LOAD_MODE_DIRECT_IO;
}

template <class T>
bool exists(const std::string & what, const T & planned) {
    if (!planned && speaks_of_memory(last_logged_error())) {
        throw out_of_memory(what + last_logged_error());
    }
    return planned != nullptr;
}

// Bytes of stacks of the threads that will be started: those that answer HTTP, those that compute,
// and two of the server.
uint64_t stacks(const common_params & params) {
#if defined(_WIN32)
    return 0;
#else
    constexpr int32_t n_own = 2; // one listens, one handles signals
    const auto cores = static_cast<int32_t>(std::thread::hardware_concurrency());
    const int32_t n_http = params.n_threads_http > 0 ? params.n_threads_http
                                                     : std::max(params.n_parallel + 4, cores - 1);
    pthread_attr_t usual;
    size_t bytes = 0;
    pthread_attr_init(&usual);
    pthread_attr_getstacksize(&usual, &bytes);
    pthread_attr_destroy(&usual);
    return bytes *
           static_cast<uint64_t>(n_http + n_own + std::max(0, params.cpuparams.n_threads - 1));
#endif
}

// Addresses that the C library reserves for the first two threads that allocate.
#if defined(__GLIBC__)
constexpr uint64_t arenas = 2 * (uint64_t(64) << 20);
#else
constexpr uint64_t arenas = 0;
#endif

// Bytes that a context of n cells takes in addition to `whole`, extrapolated from two planned ones.
uint64_t growth(llama_context * half, llama_context * whole, uint32_t n) {
    const uint64_t less = kv_cache::bytes_on_host(half).taken,
                   more = kv_cache::bytes_on_host(whole).taken;
    return more > less
               ? (more - less) / (llama_n_ctx(whole) - llama_n_ctx(half)) * (n - llama_n_ctx(whole))
               : 0;
}

} // namespace

void check_start_memory(common_params params) {
    if (!server_settings().checks.memory || params.model.path.empty()) {
        return;
    }
    const silence quiet;
    const memory_check memory(params.model.path, params.mmproj.path);
    memory.has_room_for_plan();
    complete(params);
    try {
        apply_cap(params);
    } catch (const std::invalid_argument &) {
        return; // reported when the model is loaded
    }
    llama_model_params for_model = common_model_params_to_llama(params);
    llama_context_params for_context = common_context_params_to_llama(params);
    const uint32_t asked = for_context.n_ctx; // 0: the model's own
    for_context.n_ctx = std::min(asked, most_planned);
    // this may shrink a context that -c does not set, and move layers to devices
    if (params.fit_params) {
        common_fit_params(params.model.path.c_str(), &for_model, &for_context, params.tensor_split,
                          params.tensor_buft_overrides.data(), params.fit_params_target.data(),
                          static_cast<uint32_t>(params.fit_params_min_ctx), nullptr,
                          GGML_LOG_LEVEL_ERROR);
    }
    memory_check::besides others;
    others.encoder_is_here = !params.mmproj_use_gpu || !lies_on_devices("");
    others.weights_are_mapped = is_mapped(for_model.load_mode);
    others.more.reserved = stacks(params);
    others.more.mapped = arenas;
    for_model.no_alloc = true;
    for_model.load_mode = LLAMA_LOAD_MODE_NONE; // there is nothing to map
    const std::string what = "model_path: \"" + params.model.path + "\" does not fit into memory: ";
    const llama_model_ptr model{llama_model_load_from_file(params.model.path.c_str(), for_model)};
    if (!exists(what, model)) {
        return;
    }
    const auto plan = [&](uint32_t n_ctx) {
        for_context.n_ctx = n_ctx;
        return llama_context_ptr(llama_init_from_model(model.get(), for_context));
    };
    if (asked > most_planned) {
        const llama_context_ptr half = plan(most_planned / 2), whole = plan(most_planned);
        if (exists(what, half) && exists(what, whole)) {
            others.more.taken = growth(half.get(), whole.get(), asked);
        }
    }
    const llama_context_ptr planned = plan(for_context.n_ctx);
    if (exists(what, planned)) {
        memory.check(planned.get(), others);
    }
}

} // namespace lookm::server
