#pragma once

#include "lookm/prompt/prompt.h"
#include "lookm/prompt/row_batch.h"
#include "lookm/session/sequence.h"

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace lookm {

// Images of a prompt and the short texts between them, read in full batches as rows of embeddings.
// llama.cpp takes either tokens or rows, so that each piece would be a batch of its own otherwise;
// a CPU reads a batch of 16 cells at half the speed of one of 512.
class joined_pieces {
  public:
    // read: told of cells that have been decoded. All must outlive it.
    joined_pieces(sequence & s, const prompt & p, std::function<void(int32_t)> read);

    // Whether a piece can be added: all that has been added, and the piece, fit without squeezing.
    bool takes(const prompt_piece & piece) const;
    // They move the sequence's n_past, and decode what is full.
    void add(std::span<const llama_token> tokens);
    // embeddings: of all cells of a chunk of an image; cells: of those that are read.
    void add(const prompt_chunk & image, std::span<const float> embeddings,
             std::span<const int32_t> cells);
    void finish(); // decodes what is left

  private:
    void add(std::span<const float> row, const row_batch::position & at, token_kind kind);

    sequence & sequence_;
    const prompt & prompt_;
    std::function<void(int32_t)> read_;
    bool on_;
    row_batch batch_;
    std::vector<token_kind> kind_; // of each row of the batch
};

} // namespace lookm
