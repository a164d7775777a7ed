#pragma once

#include "lookm/model/checked_files.h"

#include <functional>
#include <string>
#include <vector>

namespace lookm {

// How to start the child process that tries files.
struct file_tester {
    // a program that calls try_files(); the model, the projector ("" for none) and the number of
    // the pipe are added as arguments
    std::vector<std::string> command;
    // the option with which users skip the check, for error messages
    std::string instead;
    // called ten times a second while the child runs; an exception ends the child
    std::function<void()> tick;
};

// Makes sure that files can be opened without ending this process: files that have not been found
// to be good before are tried in a child process (file_trial.h). Throws std::invalid_argument with
// the file that cannot be used and the reason, out_of_memory, and std::runtime_error if the child
// cannot be started.
void check_files(const model_files & files, const file_tester & tester);

} // namespace lookm
