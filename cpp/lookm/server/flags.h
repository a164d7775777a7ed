#pragma once

#include <string>
#include <vector>

namespace lookm::server {

// The exit code of a server that refuses what it was given; the command line of the package has the same.
constexpr int bad_input = 2;

// Takes our flags out of a command line, and their environment variables, into current(). What is left is
// llama-server's. Throws std::invalid_argument with one line that names the flag.
//
// The values are also put into the environment: llama-server in router mode starts other servers, and they read it.
std::vector<char *> take_flags(int argc, char ** argv);

// settings speaks of kv_ratio, a command line of --kv-ratio.
std::string as_flags(std::string text);

// The section of --help that is ours, on stdout; called by llama.cpp after its own.
void print_flags(int argc, char ** argv);

} // namespace lookm::server
