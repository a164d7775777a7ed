#pragma once

// Limits of a request. llama-server writes JSON, turns schemas into grammars and parses grammars
// recursively, so a long or deep one overflows the stack and ends the process. Such requests are
// refused before llama-server sees them.

#include <cstddef>
#include <string>

namespace lookm::server {

constexpr size_t most_nested = 128; // depth of arrays and objects, and of brackets in a grammar
constexpr size_t most_grammar = 256 << 10; // bytes of a grammar
constexpr size_t most_name = 1 << 10;      // bytes of a name in a schema
constexpr size_t most_values = 20'000;     // values in a schema
constexpr size_t most_references = 1'000;  // "$ref"s in a schema

// Why a request with this body is refused; "" if it is not. takes_grammars: false refuses every
// grammar, schema and tool (--no-request-grammar): two kilobytes can keep the server busy for
// minutes.
std::string over_limits(const std::string & body, bool takes_grammars);

} // namespace lookm::server
