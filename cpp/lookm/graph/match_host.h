#pragma once

#include "lookm/graph/matches.h"

namespace lookm {

// Matching on a CPU (match_on_device is the one for devices). Needs runner.on_cpu(), k in host
// memory and n_keep > 0.
matches match_on_host(graph_runner & runner, const kv_rows & k, const match_task & task);

} // namespace lookm
