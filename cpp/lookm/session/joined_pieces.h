#pragma once

#include "lookm/prompt/joined_rows.h"
#include "lookm/prompt/prompt.h"
#include "lookm/session/sequence.h"

#include <cstdint>
#include <functional>
#include <span>

namespace lookm {

// The pieces of a prompt that a sequence reads as joined_rows.
class joined_pieces {
  public:
    // read: told of cells that have been decoded. All must outlive it.
    joined_pieces(sequence & s, const prompt & p, std::function<void(int32_t)> read);

    // Whether a piece can be added: all that has been added, and the piece, fit without squeezing.
    bool takes(const prompt_piece & piece) const;
    // They move the sequence's n_past, and decode what is full.
    void add(std::span<const llama_token> tokens);
    // embeddings: of all cells of a chunk of an image; cells: of those that are read
    void add(const prompt_chunk & image, std::span<const float> embeddings,
             std::span<const int32_t> cells);
    void finish(); // decodes what is left

  private:
    sequence & sequence_;
    const prompt & prompt_;
    bool on_;
    joined_rows rows_;
    joined_rows::decode_fn decode_;
};

} // namespace lookm
