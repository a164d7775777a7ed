#pragma once

#include "lookm/model/checked_files.h"

#include <functional>
#include <string>
#include <vector>

namespace lookm {

// The child process that tries files.
struct file_tester {
    std::vector<std::string>
        command; // calls try_files(); model, projector ("" for none) and the pipe's number follow
    std::string instead; // what opens files that one trusts without it, as the user says it
    std::function<void()>
        tick; // called ten times a second while it is at work; what it throws ends the child
};

// Makes sure that files can be opened without ending this process: those that were not found good
// before are tried in a child process (file_trial). Throws std::invalid_argument that names the
// file which cannot be used and says why, out_of_memory, and std::runtime_error where no child can
// be started.
void check_files(const model_files & files, const file_tester & tester);

} // namespace lookm
