#pragma once

#include "lookm/llama/model.h"

namespace lookm {

// Throws out_of_memory if a session of these options does not fit into memory. What it takes is what a plan says of it,
// before anything is allocated; where there is far more than files of this size take, no plan is made.
void check_memory(const model_options & options);

} // namespace lookm
