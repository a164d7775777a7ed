#pragma once

#include <exception>
#include <string>
#include <vector>

namespace lookm::server {

// The exit code of a server that refuses what it was given; the command line of the package has the
// same.
constexpr int bad_input = 2;

// Takes our flags out of a command line, and their environment variables, into server_settings().
// What is left is llama-server's. Throws std::invalid_argument with one line that names the flag.
//
// The values are also put into the environment: llama-server in router mode starts other servers,
// and they read it.
std::vector<char *> take_flags(int argc, char ** argv);

// What an error says, an argument's name in it (bad_argument) as the flag that sets it.
std::string with_flag(const std::exception & error);

// The section of --help that is ours, on stdout; called by llama.cpp after its own.
void print_flags(int argc, char ** argv);

} // namespace lookm::server
