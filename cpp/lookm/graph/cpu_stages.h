#pragma once

#include "lookm/graph/graph_runner.h"

#include <cstdint>
#include <functional>
#include <vector>

namespace lookm {

// n_tasks independent calls of run, in any order and on any thread. scratch: n_scratch floats that
// belong to the calling thread.
struct cpu_stage {
    int64_t n_tasks;
    size_t n_scratch;
    std::function<void(int64_t task, float * scratch)> run;
};

// Runs the stages one after the other on the threads of a CPU backend (runner.on_cpu()), each as
// one graph node: threads wait for each other once per stage, and a slow thread takes fewer tasks.
// If a task throws, the exception is rethrown here after the other tasks are done.
//
// shared_bytes: memory that the caller holds for the stages. It counts, like the scratch, as
// compute memory of the runner. If the scratch of all threads would exceed the runner's
// compute_bytes, fewer threads work, but at least one.
void run_stages(graph_runner & runner, const std::vector<cpu_stage> & stages, size_t shared_bytes);

} // namespace lookm
