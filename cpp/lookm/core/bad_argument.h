#pragma once

#include <cstdio>
#include <stdexcept>
#include <string>
#include <utility>

namespace lookm {

// A wrong argument. what() is "name: reason", where the reason says the value and what was
// expected. The name is the library's. A program that calls the argument something else, such as a
// flag, shows its own name instead.
struct bad_argument : std::invalid_argument {
    bad_argument(std::string argument, const std::string & reason)
        : std::invalid_argument(argument + ": " + reason), name(std::move(argument)) {}

    std::string name;
};

// A number in the shortest form, for messages.
inline std::string number(double x) {
    char text[32];
    std::snprintf(text, sizeof(text), "%g", x);
    return text;
}

} // namespace lookm
