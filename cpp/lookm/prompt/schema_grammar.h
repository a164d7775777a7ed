#pragma once

#include <string>

namespace lookm {

// The GBNF grammar of a JSON schema, by llama.cpp's code. Throws bad_argument with this argument's
// name for a schema that is not JSON, is over the limits (grammar_limits.h), or cannot be used.
std::string grammar_of_schema(const std::string & json_schema, const char * argument);

} // namespace lookm
