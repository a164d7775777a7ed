#pragma once

#include "server-context.h"

namespace lookm::server {

// llama-server's routes. Those that describe the server's state also say how it compresses.
struct routes : server_routes {
    routes(const common_params & common, server_context & context);
};

} // namespace lookm::server
