#pragma once

#include <string>
#include <vector>

namespace lookm {

// What cannot be right in the header of a GGUF file (a model's parts, or a projector): each names a
// field or a tensor, what it is and what was expected. llama.cpp dies of most of it without naming
// either. A file without doubts may be damaged all the same. Never more than a few; time and memory
// are bounded by the size of the file's header.
std::vector<std::string> doubts_of(const std::vector<std::string> & parts);

} // namespace lookm
