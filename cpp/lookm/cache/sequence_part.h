#pragma once

#include "lookm/cache/sequence_bytes.h"

#include "llama.h"

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace lookm {

// The cells of a saved sequence (llama_state_seq_get_data) at positions [p0, p1), as a sequence of
// its own. form: of the memory, which has one cache. Throws bad_argument "state" for bytes that are
// not such a sequence.
std::vector<uint8_t> part_of_sequence(std::span<const uint8_t> sequence, const cache_form & form,
                                      llama_pos p0, llama_pos p1);

// Changes the keys of a saved sequence: `change` gets those of each layer, f32 [n_cells, n_values],
// as attention sees them, and returns whether it has changed them. Layers are counted in the order
// in which llama.cpp saves them.
using key_change = std::function<bool(size_t layer, std::span<float> keys, int64_t n_cells)>;
void change_keys(std::span<uint8_t> sequence, const cache_form & form, const key_change & change);

} // namespace lookm
