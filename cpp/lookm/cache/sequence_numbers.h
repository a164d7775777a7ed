#pragma once

#include "lookm/cache/sequence_bytes.h"

#include <cstdint>
#include <span>

namespace lookm {

// Whether all values of a sequence's cells (llama_state_seq_get_data) are finite. One that is not
// spoils what attends to other cells, too, and outlives its own: where weights are multiplied by
// all of V, nothing times NaN is NaN. Forms: as of convert_sequence. Throws std::invalid_argument
// for bytes that are no such sequence.
bool holds_numbers(std::span<const uint8_t> sequence, std::span<const cache_form> forms);

} // namespace lookm
