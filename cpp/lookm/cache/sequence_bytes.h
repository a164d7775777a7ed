#pragma once

#include "ggml.h"

#include <cstdint>
#include <span>
#include <vector>

namespace lookm {

// How a KV cache stores its rows, as far as llama.cpp's form of a sequence
// (llama_state_seq_get_data) depends on it.
struct cache_form {
    ggml_type type_k = GGML_TYPE_F16;
    ggml_type type_v = GGML_TYPE_F16;
    bool v_transposed = false; // without flash attention
    // llama.cpp turns what it quantizes by a Walsh-Hadamard transform of so many values at a time;
    // 0: as they are
    int32_t rotation_k = 0;
    int32_t rotation_v = 0;
    int32_t cell_bytes = 0; // what a cell says beside its position and its sequences

    bool operator==(const cache_form &) const = default;
};

// A sequence of caches of one form, as those of the other would hold it: each row as floats, turned
// as the other's are, and stored in its types. Of several caches in one memory (windows beside full
// attention) the forms stand in the order in which llama.cpp writes them; what follows theirs is
// copied. n_threads: of this machine. Throws std::invalid_argument for bytes that are no such
// sequence.
std::vector<uint8_t> convert_sequence(std::span<const uint8_t> sequence,
                                      std::span<const cache_form> from,
                                      std::span<const cache_form> to, int32_t n_threads);

} // namespace lookm
