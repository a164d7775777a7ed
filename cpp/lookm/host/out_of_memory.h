#pragma once

#include "lookm/core/bad_argument.h"
#include "lookm/host/log.h"

#include <new>
#include <string>
#include <string_view>

namespace lookm {

// Something did not fit into memory. what() says what it was, how much it needs and how much there
// is.
class out_of_memory : public std::bad_alloc {
  public:
    explicit out_of_memory(std::string what) : what_(std::move(what)) {}
    const char * what() const noexcept override { return what_.c_str(); }

  private:
    std::string what_;
};

// Whether an error message of llama.cpp or ggml is about a failed allocation.
bool speaks_of_memory(std::string_view error);

// Throws an Error with `what` and the last logged error, or out_of_memory if that is about memory.
template <class Error>
[[noreturn]] void throw_logged(const std::string & what) {
    const std::string logged = last_logged_error();
    if (speaks_of_memory(logged)) {
        throw out_of_memory(what + logged);
    }
    throw Error(what + logged);
}

// The same for an argument: throws bad_argument, or out_of_memory.
[[noreturn]] inline void throw_logged(const char * argument, const std::string & what) {
    const std::string logged = last_logged_error();
    if (speaks_of_memory(logged)) {
        throw out_of_memory(std::string(argument) + ": " + what + logged);
    }
    throw bad_argument(argument, what + logged);
}

} // namespace lookm
