#pragma once

#include "common.h"

namespace lookm::server {

// Checks, before anything is allocated, that model, projector and cache fit into this machine's own
// memory. Throws std::exception with a line that says how much they take and how much there is.
// Does not count adapters and draft models. Does not report a model that cannot be opened, because
// llama-server does so later.
void check_start_memory(common_params params);

} // namespace lookm::server
