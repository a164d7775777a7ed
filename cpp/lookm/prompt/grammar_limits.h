#pragma once

// Limits of grammars and schemas. llama.cpp turns schemas into grammars and parses grammars
// recursively, so a long or deep one overflows the stack and ends the process. They are refused
// before llama.cpp sees them.

#include "json.h"

#include <cstddef>
#include <string>

namespace lookm {

constexpr size_t most_nested = 128; // depth of arrays and objects, and of brackets in a grammar
constexpr size_t most_grammar = 256 << 10; // bytes of a grammar
constexpr size_t most_name = 1 << 10;      // bytes of a name in a schema
constexpr size_t most_values = 20'000;     // values in a schema
constexpr size_t most_references = 1'000;  // "$ref"s in a schema

// Why a text is refused; "" if it is not.
std::string json_over_limits(const std::string & json);
std::string grammar_over_limits(const std::string & grammar);
// Of JSON that is within its limits.
std::string schema_over_limits(const common_json & schema);

// How much of the beginning of an answer can be parsed. There may be JSON somewhere in it, after
// text with any number of quotes.
size_t parsable(const std::string & answer);

} // namespace lookm
