#pragma once

#include "ggml.h"

#include <string>
#include <vector>

namespace lookm {

// Routes llama.cpp's, ggml's and mtmd's log: everything to stderr when verbose, otherwise nothing.
// The last error line is kept for the error that we raise. Process-wide, as llama.cpp's log is.
void set_verbose(bool verbose);
bool is_verbose();

// The last error that llama.cpp logged since forget_errors(), or "no further detail".
std::string last_logged_error();
void forget_errors();

// Puts llama.cpp's log back where it went before set_verbose().
class log_kept {
  public:
    log_kept();
    ~log_kept();
    log_kept(const log_kept &) = delete;
    log_kept & operator=(const log_kept &) = delete;

  private:
    ggml_log_callback callback_ = nullptr;
    void * user_data_ = nullptr;
};

// While it lives: every line that is logged on this thread.
class log_lines {
  public:
    log_lines();
    ~log_lines();
    log_lines(const log_lines &) = delete;
    log_lines & operator=(const log_lines &) = delete;
    const std::vector<std::string> & get() const { return lines_; }

  private:
    std::vector<std::string> lines_;
};

} // namespace lookm
