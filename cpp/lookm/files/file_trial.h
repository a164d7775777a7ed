#pragma once

#include <string>

namespace lookm {

// llama.cpp and ggml end the process on many a file that is damaged or made on purpose. So a file
// that was not seen before is opened in a child process first (checked_files), which does there, on
// the CPU alone, a little of all that a session does: it loads model and projector, cuts a large
// picture up, encodes a small one, and reads a few of its cells and a few tokens.
//
// The child says on a pipe how far it is, so that whoever waits for it can tell what went wrong
// wherever it ends. A line is a word of these, a space and a text without line breaks:
namespace trial {
constexpr const char * model = "model";         // a step begins: it is about the model,
constexpr const char * projector = "projector"; // about the projector,
constexpr const char * both = "both";           // or about one that meets the other
constexpr const char * doubt = "doubt"; // about the step's file, by its header alone (file_doubts)
constexpr const char * good = "good";   // the end: the files can be used
constexpr const char * refused = "refused"; // they cannot, as a session would say it
constexpr const char * memory = "memory";   // they do not fit into memory
constexpr const char * ended = "ended";     // llama.cpp was about to end the process, and said why
} // namespace trial

// Tries the files, writes to the pipe, and ends the process. mmproj_path: "" for none.
[[noreturn]] void try_files(const std::string & model_path, const std::string & mmproj_path,
                            int pipe);

} // namespace lookm
