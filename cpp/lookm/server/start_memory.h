#pragma once

#include "common.h"

namespace lookm::server {

// Throws std::exception with a line that says how much the server's start wants and how much there
// is, before anything of it is allocated: model, projector and cache, as far as they lie in this
// machine's own memory. Adapters and draft models do not count. Nothing is thrown about a model
// that cannot be opened: llama-server says it better.
void check_start_memory(common_params params);

} // namespace lookm::server
