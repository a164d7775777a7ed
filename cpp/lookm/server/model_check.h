#pragma once

#include "common.h"

#include <string>

namespace lookm::server {

// This program also runs as the child process that tests files: if it was started for that, it does
// so and exits.
void be_the_child(int argc, char ** argv);

// Throws std::exception with a line that names the file if model or projector cannot be opened.
// program: argv[0].
void check_model(const common_params & params, const char * program);

} // namespace lookm::server
