#pragma once

#include "lookm/session/prefixes.h"
#include "lookm/session/sized_context.h"

#include <cstdint>
#include <span>
#include <vector>

namespace lookm {

// A prefix as bytes, for another session of the same model, cache types and prefix_type.
std::vector<uint8_t> state_of(const prefix & kept, const sized_context & context);

// Reads such bytes. The context ends up with the prefix's cells, as a test of them. Throws
// bad_argument "state" for bytes that state_of() has not made or that do not fit.
prefix prefix_of(std::span<const uint8_t> state, sized_context & context);

} // namespace lookm
