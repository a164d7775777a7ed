#pragma once

#include "lookm/session/sequence.h"

#include <vector>

namespace lookm {

// Decodes every chunk of a prompt into the sequence, and fills in its stats. Throws what progress
// throws, and std::runtime_error where llama.cpp fails.
void read_prompt(sequence & into, const prompt & p, const progress_fn & progress);

// Images of a prompt, or their tiles, and the runs of text of one kind between them.
std::vector<prompt_part> parts_of(const prompt & p, const mtmd_context * mmproj);

} // namespace lookm
