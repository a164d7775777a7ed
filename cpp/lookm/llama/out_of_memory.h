#pragma once

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

} // namespace lookm
