#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>

namespace lookm::server {

// These read a flag's text as a value. They throw std::invalid_argument that says what is expected,
// without the flag's name.
void parse(double & value, const std::string & text);
void parse(int32_t & value, const std::string & text); // also 1e3
void parse(uint32_t & value, const std::string & text);
void parse(bool & value, const std::string & text); // llama.cpp's words for true and false
void parse(std::string & value, const std::string & text);
void parse(std::variant<double, std::string> & value, const std::string & text); // or auto

template <class T>
void parse(std::optional<T> & value, const std::string & text) {
    parse(value.emplace(), text);
}

int64_t parsed_bytes(const std::string & text); // parse_bytes()

} // namespace lookm::server
