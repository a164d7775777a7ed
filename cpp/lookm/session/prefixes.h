#pragma once

#include "lookm/core/byte_budget.h"
#include "lookm/core/compression.h"
#include "lookm/prompt/prompt.h"
#include "lookm/session/sequence.h"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace lookm {

// What a piece of a prompt is recognized by when it comes again: its tokens, or its image.
struct piece_key {
    std::vector<llama_token> tokens;
    std::vector<token_kind> kind;
    std::vector<char> image; // prompt_chunk::image_key

    bool operator==(const piece_key &) const = default;
};

// Keys of all pieces up to the end of the last image or context; none after an image without an id,
// as nobody can tell whether it comes again.
std::vector<piece_key> keys_of(const prompt & p);

// The beginning of a prompt as it was read, before anything of it was evicted.
struct prefix {
    struct end {
        int32_t n_cells;
        llama_pos n_past;
    };
    std::vector<piece_key> pieces;
    std::vector<end> ends; // of the pieces, where a later prompt may depart from this one
    sequence::copy copy;

    size_t bytes() const;
};

// What a prompt can go on from.
struct prefix_need {
    int32_t n_most = 0;   // cells at most: what comes after them must be observed
    int32_t n_room = 0;   // cells at most of the whole that is kept, even if its end is cut
    bool sums = false;    // with the attention of all queries so far
    bool squares = false; // also its squares
    bool can_cut = false; // the model's memory can forget the end of a sequence
};

// Where a prompt goes on from.
struct prefix_match {
    std::shared_ptr<const prefix> from; // null: nothing that is kept helps
    size_t n_pieces = 0;                // of from, that begin the prompt

    int32_t n_cells() const { return from ? from->ends.back().n_cells : 0; } // of the whole
};

// Beginnings of earlier prompts in host memory. A prompt that begins in the same way goes on from
// there; only what is new is read, scored and compressed, on a copy of the cells.
class prefixes {
  public:
    explicit prefixes(size_t most_bytes) : kept_(most_bytes) {}

    bool on() const { return kept_.most() > 0; }
    size_t most() const { return kept_.most(); }
    size_t bytes() const { return kept_.bytes(); }
    size_t size() const { return kept_.size(); }

    // The longest beginning of a prompt that is kept, which from now on counts as used.
    prefix_match find(std::span<const piece_key> prompt, const prefix_need & need);
    // can_cut: as in prefix_need
    void keep(prefix made, bool can_cut);

  private:
    byte_budget<prefix> kept_;
};

} // namespace lookm
