#include "lookm/graph/cpu_stages.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <memory>
#include <mutex>

namespace lookm {

namespace {

struct running {
    const cpu_stage * stage;
    int most_threads = 1;
    std::atomic<int64_t> next{0};
    std::atomic<int64_t> n_threads{0};
    std::mutex mutex;
    std::exception_ptr error;
};

void work(running & r) {
    std::unique_ptr<float[]> scratch;
    for (int64_t task = r.next++; task < r.stage->n_tasks; task = r.next++) {
        if (!scratch) {
            scratch.reset(new float[r.stage->n_scratch]);
            ++r.n_threads;
        }
        r.stage->run(task, scratch.get());
    }
}

void custom_op(ggml_tensor *, int thread, int, void * userdata) {
    auto & r = *static_cast<running *>(userdata);
    if (thread >= r.most_threads) {
        return;
    }
    try {
        work(r);
    } catch (...) { // the caller is C code, which no exception may pass through
        const std::lock_guard lock(r.mutex);
        r.error = std::current_exception();
    }
}

} // namespace

void run_stages(graph_runner & runner, const std::vector<cpu_stage> & stages, size_t shared_bytes) {
    std::vector<running> all(stages.size());
    ggml_context * ctx = runner.begin(stages.size());
    for (size_t i = 0; i < stages.size(); ++i) {
        all[i].stage = &stages[i];
        const size_t left = runner.compute_bytes() - std::min(runner.compute_bytes(), shared_bytes);
        const size_t n = left / (std::max<size_t>(1, stages[i].n_scratch) * sizeof(float));
        all[i].most_threads = static_cast<int>(std::clamp<size_t>(n, 1, GGML_MAX_N_THREADS));
        ggml_tensor * node = ggml_custom_4d(ctx, GGML_TYPE_I8, 1, 1, 1, 1, nullptr, 0, custom_op,
                                            GGML_N_TASKS_MAX, &all[i]);
        ggml_build_forward_expand(runner.graph(), node);
    }
    runner.alloc();
    runner.compute();
    size_t scratch = 0;
    for (const running & r : all) {
        if (r.error) {
            std::rethrow_exception(r.error);
        }
        scratch = std::max(scratch,
                           static_cast<size_t>(r.n_threads) * r.stage->n_scratch * sizeof(float));
    }
    runner.count(shared_bytes + scratch);
}

} // namespace lookm
