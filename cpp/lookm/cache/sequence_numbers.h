#pragma once

#include "lookm/cache/sequence_bytes.h"

#include <cstdint>
#include <span>

namespace lookm {

// Whether all K and V values of a saved sequence (llama_state_seq_get_data) are finite. A NaN or
// infinity would spoil more than its own cell, even after that is freed: attention weights are
// multiplied by all of V, and 0 * NaN is NaN. forms: as for convert_sequence(). Throws bad_argument
// "state" for bytes that are not such a sequence.
bool holds_numbers(std::span<const uint8_t> sequence, std::span<const cache_form> forms);

} // namespace lookm
