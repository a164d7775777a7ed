#pragma once

#include "lookm/core/prompt_cap.h"

#include <cstdint>
#include <span>
#include <vector>

namespace lookm {

// A part of a conversation, as a saved state holds it. It has no padding, and each field is checked
// when it is read.
struct saved_part {
    int32_t n_cells;
    uint8_t kind, evictable, whole;
    uint8_t unused = 0;
};

std::vector<saved_part> saved(std::span<const prompt_part> parts);
// Throws as state_reader does, for parts that saved() has not made.
std::vector<prompt_part> restored(std::span<const saved_part> parts);

} // namespace lookm
