#pragma once

#include <string>
#include <vector>

namespace lookm {

// What cannot be right in the header of a GGUF file (all parts of a model, or a projector). Each
// text says the field or tensor, what it is and what was expected; llama.cpp aborts on most of
// these without such details. A file without doubts may still be damaged. Returns only a few; time
// and memory are bounded by the size of the header.
std::vector<std::string> doubts_of(const std::vector<std::string> & parts);

} // namespace lookm
