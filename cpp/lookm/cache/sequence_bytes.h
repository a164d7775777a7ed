#pragma once

#include "ggml.h"

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace lookm {

// How a KV cache stores its rows, as far as the bytes of a saved sequence
// (llama_state_seq_get_data) depend on it.
struct cache_form {
    ggml_type type_k = GGML_TYPE_F16;
    ggml_type type_v = GGML_TYPE_F16;
    bool v_transposed = false; // without flash attention
    // llama.cpp applies a Walsh-Hadamard transform to groups of this many values before it
    // quantizes them; 0: no transform
    int32_t rotation_k = 0;
    int32_t rotation_v = 0;
    int32_t cell_bytes = 0; // of a cell's data in addition to its position and sequences

    bool operator==(const cache_form &) const = default;
};

// Converts a saved sequence from caches of one form to another: each row is converted to f32,
// transformed as the target's rows are, and stored in the target's types. If a memory has several
// caches (full attention and sliding windows), there is one form for each, in the order in which
// llama.cpp saves them; bytes after them are copied. n_threads: threads to use. Throws bad_argument
// "state" for bytes that are not such a sequence.
std::vector<uint8_t> convert_sequence(std::span<const uint8_t> sequence,
                                      std::span<const cache_form> from,
                                      std::span<const cache_form> to, int32_t n_threads);

// How sequences rest in host memory: as their caches have them, or with K and V of another type.
class sequence_rest {
  public:
    sequence_rest() = default;
    // here: of the caches. n_threads: for conversions.
    sequence_rest(std::vector<cache_form> here, std::optional<ggml_type> type, int32_t n_threads);

    bool converts() const { return here_ != at_rest_; }
    const std::vector<cache_form> & forms() const { return at_rest_; }
    double share() const; // bytes at rest for each byte in the caches, at most

    std::vector<uint8_t> put(std::vector<uint8_t> sequence) const;
    // The sequence for the caches; `storage` holds it if it had to be converted.
    std::span<const uint8_t> take(std::span<const uint8_t> at_rest,
                                  std::vector<uint8_t> & storage) const;

  private:
    std::vector<cache_form> here_, at_rest_;
    int32_t n_threads_ = 1;
};

} // namespace lookm
