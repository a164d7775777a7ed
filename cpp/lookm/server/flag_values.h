#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace lookm::server {

// A flag's text as a value. All throw std::invalid_argument that says what was expected, without
// the flag's name.
void parse(double & value, const std::string & text);
void parse(int32_t & value, const std::string & text); // 1e3 is a whole number, too
void parse(uint32_t & value, const std::string & text);
void parse(bool & value, const std::string & text); // in llama.cpp's words
void parse(std::string & value, const std::string & text);

template <class T>
void parse(std::optional<T> & value, const std::string & text) {
    parse(value.emplace(), text);
}

int64_t parsed_bytes(const std::string & text); // parse_bytes()

} // namespace lookm::server
