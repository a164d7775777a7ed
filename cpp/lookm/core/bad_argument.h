#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace lookm {

// An argument that is wrong. what() is "name: reason", the reason being its value and what was
// expected. The name is the library's; a program that has another one for it, such as a flag, puts
// that in its place.
struct bad_argument : std::invalid_argument {
    bad_argument(std::string of, const std::string & reason)
        : std::invalid_argument(of + ": " + reason), name(std::move(of)) {}

    std::string name;
};

} // namespace lookm
