#pragma once

// What a request may hold. llama-server writes JSON out, makes grammars of schemas and reads
// grammars by recursion, so that a long or deep one overflows the stack and ends the process: such
// requests are refused before it sees them.

#include <cstddef>
#include <string>

namespace lookm::server {

constexpr size_t most_nested = 128; // arrays and objects in each other, and brackets of a grammar
constexpr size_t most_grammar = 256 << 10; // bytes of a grammar
constexpr size_t most_name = 1 << 10;      // bytes of a name in a schema
constexpr size_t most_values = 20'000;     // values in a schema
constexpr size_t most_references = 1'000;  // "$ref"s in a schema

// Why a request is refused that has such a body; empty for others. By --no-request-grammar every
// grammar, schema and tool is: one of two kilobytes can keep the server busy for minutes.
std::string over_limits(const std::string & body, bool takes_grammars);

} // namespace lookm::server
