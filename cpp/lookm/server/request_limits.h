#pragma once

#include <string>

namespace lookm::server {

// Why a request with this body is refused before llama-server sees it (grammar_limits.h); "" if it
// is not. takes_grammars: false refuses every grammar, schema and tool (--no-request-grammar): two
// kilobytes can keep the server busy for minutes.
std::string over_limits(const std::string & body, bool takes_grammars);

} // namespace lookm::server
