#pragma once

#include "server-context.h"

namespace lookm::server {

// llama-server's routes; what they say of the server's state also says how prompts are compressed.
struct routes : server_routes {
    routes(const common_params & common, server_context & context);
};

} // namespace lookm::server
