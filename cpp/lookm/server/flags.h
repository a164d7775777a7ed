#pragma once

#include <exception>
#include <string>
#include <vector>

namespace lookm::server {

// Exit code for bad input, the same as that of the lookm command.
constexpr int bad_input = 2;

// Reads our flags and their environment variables into server_settings(). Returns the rest of the
// command line, which is for llama-server. Throws std::invalid_argument with one line that names
// the flag.
//
// The values are also put into the environment, for the servers that llama-server starts in router
// mode.
std::vector<char *> take_flags(int argc, char ** argv);

// The text of an error, with options (bad_argument) replaced by the flags that set them.
std::string with_flag(const std::exception & error);

// Prints our section of --help to stdout. llama.cpp calls it after its own sections.
void print_flags(int argc, char ** argv);

} // namespace lookm::server
