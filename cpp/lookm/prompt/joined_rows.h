#pragma once

#include "lookm/core/method.h"
#include "lookm/prompt/row_batch.h"

#include "llama.h"
#include "mtmd.h"

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace lookm {

// Images of a prompt and the short texts between them, collected into full batches of rows of
// embeddings. llama.cpp takes either tokens or rows, so that each piece would be a batch of its own
// otherwise; a CPU reads a batch of 16 cells at half the speed of one of 512.
class joined_rows {
  public:
    // Decodes a batch, with the kind of each row. Returns what llama_decode() does, or throws.
    using decode_fn = std::function<int32_t(row_batch & batch, std::span<const token_kind> kind)>;

    // ctx and mmproj must outlive it.
    joined_rows(llama_context * ctx, const mtmd_context * mmproj, llama_seq_id seq);

    // Whether this model can read texts as rows. LOOKM_JOIN=off in the environment says no.
    static bool possible(const llama_model * model);
    static bool takes_text(int32_t n_tokens);
    // image: all its cells, as the encoder makes them; pruned: whether only some are read
    bool takes_image(const mtmd_input_chunk * image, bool pruned) const;

    // They add what begins at position `at`, and decode what is full. Each returns 0, or what
    // decode has returned: the rows that it was given are kept, and those after them are missing.
    int32_t add(std::span<const llama_token> tokens, llama_pos at, const decode_fn & decode);
    // embeddings: of all cells of the image; cells: those that are read, ascending; none: all are
    int32_t add(const mtmd_input_chunk * image, std::span<const float> embeddings,
                std::span<const int32_t> cells, llama_pos at, const decode_fn & decode);
    int32_t finish(const decode_fn & decode); // decodes what is left

    int32_t size() const { return batch_.size(); } // rows that have not been decoded
    llama_pos next() const { return next_; }       // position after the last row

  private:
    int32_t add(std::span<const float> row, const row_batch::position & at, token_kind kind,
                const decode_fn & decode);

    const llama_model * model_;
    llama_context * ctx_;
    const mtmd_context * mmproj_;
    row_batch batch_;
    std::vector<token_kind> kind_; // of each row of the batch
    llama_pos next_ = 0;
};

} // namespace lookm
