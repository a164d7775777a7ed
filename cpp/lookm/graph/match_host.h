#pragma once

#include "lookm/graph/matches.h"

namespace lookm {

// The form of matching for CPUs. Needs runner.on_cpu() and k in host memory; n_keep > 0.
// match_graph is the form for devices.
matches match_on_host(graph_runner & runner, const kv_rows & k, const match_task & task);

} // namespace lookm
