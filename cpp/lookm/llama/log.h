#pragma once

#include <string>

namespace lookm {

// Routes llama.cpp's, ggml's and mtmd's log: everything to stderr when verbose, otherwise nothing. The last error line
// is kept for the error that we raise. Process-wide, as llama.cpp's log is.
void set_verbose(bool verbose);

// The last error that llama.cpp logged since forget_errors(), or "no further detail".
std::string last_logged_error();
void forget_errors();

} // namespace lookm
