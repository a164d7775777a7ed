#pragma once

#include "lookm/graph/graph_runner.h"

#include <cstdint>
#include <functional>
#include <vector>

namespace lookm {

// n_tasks calls of run, in any order and on any thread. scratch: n_scratch floats of the calling
// thread.
struct cpu_stage {
    int64_t n_tasks;
    size_t n_scratch;
    std::function<void(int64_t task, float * scratch)> run;
};

// Runs stages one after the other on the threads of a CPU backend (runner.on_cpu()), each as one
// graph node: threads meet once a stage, and a thread that is slow takes fewer tasks. A task's
// exception comes out here, after the others are done. shared_bytes: what the caller holds for
// them; it counts with the scratch as compute memory of the runner, and where all threads' scratch
// would exceed the runner's compute_bytes, fewer threads work, one at least.
void run_stages(graph_runner & runner, const std::vector<cpu_stage> & stages, size_t shared_bytes);

} // namespace lookm
