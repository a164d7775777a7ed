#pragma once

#include "common.h"

#include <string>

namespace lookm::server {

// This program is also the child process that tries files: called for that, it does so and ends.
void be_the_child(int argc, char ** argv);

// Throws std::exception with a line that names the file where model or projector cannot be opened.
// program: argv[0].
void check_model(const common_params & params, const char * program);

} // namespace lookm::server
