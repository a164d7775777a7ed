#pragma once

// A client's mistakes are answered with status 400 and a sentence about the request. llama-server
// answers many with 500, and with what its JSON library says of its own calls.

#include "server-http.h"

#include <string>

namespace lookm::server {

// The handler, whose exceptions about the request become std::invalid_argument: llama-server
// answers that with 400. A router also throws where one of its servers fails, so there only what is
// wrong about JSON is the request's fault.
server_http_context::handler_t with_client_errors(server_http_context::handler_t inner,
                                                  bool is_router);

// An error that llama-server reports itself, its JSON library's words put plainly. `body` is the
// request's.
void reword(server_http_res & response, const std::string & path, const std::string & body);

} // namespace lookm::server
