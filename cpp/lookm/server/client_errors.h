#pragma once

// Answers clients' mistakes with status 400 and a sentence about the request. llama-server answers
// many of them with status 500 and a message of its JSON library about its own calls.

#include "server-http.h"

#include <string>

namespace lookm::server {

// The handler, with exceptions about the request turned into std::invalid_argument, which
// llama-server answers with 400. A router also throws if one of its servers fails, so there only
// JSON errors count as the request's fault.
server_http_context::handler_t with_client_errors(server_http_context::handler_t inner,
                                                  bool is_router);

// Rewords an error that llama-server reports in its JSON library's words. body: the request's.
void reword(server_http_res & response, const std::string & path, const std::string & body);

} // namespace lookm::server
