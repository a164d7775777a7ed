#pragma once

#include "lookm/core/bad_argument.h"
#include "lookm/host/log.h"

#include <new>
#include <string>
#include <string_view>

namespace lookm {

// Something did not fit into memory: what it was, how much it wants, and how much there is.
class out_of_memory : public std::bad_alloc {
  public:
    explicit out_of_memory(std::string what) : what_(std::move(what)) {}
    const char * what() const noexcept override { return what_.c_str(); }

  private:
    std::string what_;
};

// Whether an error of llama.cpp's or ggml's is about memory that it did not get.
bool speaks_of_memory(std::string_view error);

// Throws an Error with what llama.cpp logged, or out_of_memory where that is about memory.
template <class Error>
[[noreturn]] void throw_logged(const std::string & what) {
    const std::string logged = last_logged_error();
    if (speaks_of_memory(logged)) {
        throw out_of_memory(what + logged);
    }
    throw Error(what + logged);
}

// The same, of an argument: bad_argument.
[[noreturn]] inline void throw_logged(const char * argument, const std::string & what) {
    const std::string logged = last_logged_error();
    if (speaks_of_memory(logged)) {
        throw out_of_memory(std::string(argument) + ": " + what + logged);
    }
    throw bad_argument(argument, what + logged);
}

} // namespace lookm
