#pragma once

#include <string>

namespace lookm {

// llama.cpp and ggml end the process on many files that are damaged, by accident or on purpose. So
// a file that has not been seen before (checked_files.h) is first opened in a child process. On the
// CPU, the child does a little of everything that a session does: it loads the model and the
// projector, cuts a large image into pieces, encodes a small one, and reads a few of its cells and
// a few tokens.
//
// The child reports its progress on a pipe, so that its parent can say what went wrong wherever the
// child ends. Each line is one of these words, a space and a text without line breaks:
namespace trial {
// a step begins, which is about ...
constexpr const char * model = "model";         // the model
constexpr const char * projector = "projector"; // the projector
constexpr const char * both = "both";           // the projector used with the model
// a doubt about the step's file from its header (file_doubts.h)
constexpr const char * doubt = "doubt";
// the end, with the reason
constexpr const char * good = "good";       // the files can be used
constexpr const char * refused = "refused"; // a session rejects the files
constexpr const char * memory = "memory";   // they do not fit into memory
constexpr const char * ended = "ended";     // llama.cpp was about to end the process
} // namespace trial

// Tries the files, reports on the pipe (a file descriptor), and ends the process. mmproj_path: ""
// for none.
[[noreturn]] void try_files(const std::string & model_path, const std::string & mmproj_path,
                            int pipe);

} // namespace lookm
