#pragma once

#include "ggml.h"

#include <string>
#include <vector>

namespace lookm {

// Sends the logs of llama.cpp, ggml and mtmd to stderr if verbose, and nowhere otherwise. Errors
// are remembered for last_logged_error() in both cases. Process-wide, as llama.cpp's log is.
void set_verbose(bool verbose);
bool is_verbose();

// The first error logged since forget_errors(), which is usually the cause of the others, or "no
// further detail".
std::string last_logged_error();
void forget_errors();

// Its destructor restores the log callback that was set when it was constructed.
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

// Collects every line that is logged on this thread while the object lives.
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
