#pragma once

#include "lookm/session/sequence.h"

#include <cstddef>
#include <functional>
#include <vector>

namespace lookm {

// Decodes the pieces of a prompt from the first-th on into a sequence that has those before it, and
// fills in its stats. Calls read(i) before the piece i and once more after the last one; the
// sequence then has counted the cells before it, and has decoded them if i is stop or the end.
// Throws what progress and read throw, and std::runtime_error where llama.cpp fails.
void read_prompt(sequence & into, const prompt & p, const progress_fn & progress, size_t first = 0,
                 size_t stop = 0, const std::function<void(size_t)> & read = {});

// Which cells of a pruned image's chunk are read, in ascending order. Encodes it if what the
// encoder has made of it is no longer there.
std::vector<int32_t> cells_read(sequence & s, const prompt & p, const prompt_chunk & chunk);

// Images of a prompt, or their tiles, and the runs of text of one kind between them.
std::vector<prompt_part> parts_of(const prompt & p, const mtmd_context * mmproj);

} // namespace lookm
