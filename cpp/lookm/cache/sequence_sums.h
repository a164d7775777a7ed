#pragma once

#include "lookm/core/state_bytes.h"

#include "llama.h"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace lookm {

class compressor;

// The attention that the cells of a sequence received, in host memory: for each layer, score_tap's
// scores() and squares().
struct sequence_sums {
    std::vector<std::vector<float>> sums, squares; // squares: empty unless the method needs them

    bool empty() const { return sums.empty(); }
    size_t bytes() const;
    // Whether they are those of n_cells cells of this cache, and numbers. Empty ones fit.
    bool fit(compressor & c, int32_t n_cells) const;

    void put(state_writer & w) const;
    static sequence_sums get(state_reader & r); // throws bad_argument "state"
};

// What a compressor has observed of a sequence.
sequence_sums sums_of(compressor & c, llama_seq_id seq);
// Goes on from them: the compressor observes, and the sequence has these cells and no others.
void restore(compressor & c, llama_seq_id seq, const sequence_sums & from);

} // namespace lookm
