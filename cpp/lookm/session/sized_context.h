#pragma once

#include "lookm/cache/compressor.h"
#include "lookm/model/model.h"

#include "llama-cpp.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace lookm {

// The llama_context of a session, no larger than what is in it. llama.cpp allocates the KV cache
// when a context is made. So to give memory back, the sequence moves to a smaller context, and the
// old one is freed.
//
// A context that only answers has the types kept_type_k and kept_type_v; a sequence that moves
// there is converted.
//
// With options.shrink off there is one context, of n_ctx cells or as many as the cap allows.
class sized_context {
  public:
    // Starts with the smallest context, to learn what the model can do. Throws as make_context
    // does, and bad_argument for a cap or kept types that this model cannot have.
    sized_context(llama_model * model, const model_options & options);

    llama_context * get() const { return ctx_.get(); }
    // null where the model cannot be compressed, and after move()
    lookm::compressor * compressor() const { return compressor_.get(); }
    // why the model cannot be compressed, "" where it can be
    const std::string & unsupported() const { return unsupported_; }

    // n_ctx: cells that a context may grow to where there is no cap
    int32_t limit() const { return options_.n_ctx; }
    int32_t cap() const { return cap_; }   // most cells in use, 0: any number
    int32_t most() const;                  // cells allocated at most
    int32_t size() const;                  // cells allocated now
    std::optional<int32_t> n_used() const; // cells in use; nothing for memories without cells
    size_t bytes() const;                  // of the KV buffers allocated now
    size_t bytes_per_cell() const { return kv_cache::bytes_per_token(ctx_.get()); }
    // Whether a context that answers has other types than one that reads prompts.
    bool keeps_other_types() const {
        return options_.kept_type_k != options_.type_k || options_.kept_type_v != options_.type_v;
    }
    int32_t n_batch() const { return static_cast<int32_t>(llama_n_batch(ctx_.get())); }

    void clear(); // forgets the sequence

    // Makes an empty context of at least n_cells, limit() at most. Throws std::invalid_argument for
    // more than memory holds.
    void open(int32_t n_cells);

    // The same, for a context that only answers: what move() makes.
    void open_for_answer(int32_t n_cells);

    // Moves the sequence to a context of at least n_cells (limit() at most), unless it has that
    // size. The next token's logits are the same as without the move, unless the types change.
    // Logits that were already computed are lost. At its peak this holds the larger context and a
    // copy of the sequence's cells, or the new context and a copy in each of two types. Throws
    // std::runtime_error when memory runs out; the sequence is lost then. to_read: the new context
    // can read and compress more of a prompt.
    void move(int32_t n_cells, bool to_read = false);

    // Copies another one's sequence, as move() would leave it. Throws as move() does.
    void take_over(const sized_context & other, int32_t n_cells);

    std::vector<uint8_t> sequence() const; // cells and their rows, in llama.cpp's form
    // What its cells were made from, which that form does not say; empty without a compressor.
    std::vector<token_kind> kinds() const;
    // Says of what kind the last cells are; llama.cpp takes all rows of embeddings for images.
    void set_last_kinds(std::span<const token_kind> kinds);
    // Replaces the sequence by one that sequence() and kinds() have given. Throws
    // std::runtime_error if llama.cpp cannot.
    void refill(std::span<const uint8_t> sequence, std::span<const token_kind> kinds = {});
    // The same with K and V in options.prefix_type, for host memory.
    std::vector<uint8_t> sequence_at_rest() const;
    void refill_from_rest(std::span<const uint8_t> at_rest, std::span<const token_kind> kinds);
    size_t bytes_per_cell_at_rest() const;
    // Makes a context of at least n_cells with this sequence. Throws std::invalid_argument for
    // bytes that sequence() has not made.
    void restore(std::span<const uint8_t> sequence, int32_t n_cells);
    // The same for one that sequence_at_rest() has given.
    void restore_from_rest(std::span<const uint8_t> at_rest, int32_t n_cells);
    // 0 for a model to which the size of its context means nothing.
    int32_t size_that_counts() const { return kv_cache::size_changes_rope(get()) ? size() : 0; }
    // Throws bad_argument "state" for one that was saved where another size counted.
    void check_size_of_state(int32_t n_ctx) const;

  private:
    int32_t cells_for(int32_t n_cells) const;
    void check_memory(int32_t n_cells) const;
    void make_compressor();
    void restore_kinds(std::span<const token_kind> kinds);
    void check_kept_types();
    void check_prefix_type() const;
    sequence_rest rest() const;
    std::vector<cache_form> forms() const; // empty where all contexts have the same
    void put(std::vector<uint8_t> sequence, const std::vector<cache_form> & form);
    void make(int32_t n_cells, int32_t n_ubatch, bool kept = false);

    llama_model * model_;
    model_options options_;
    int32_t cap_ = 0;
    size_t bytes_per_cell_ = 0;  // in the types that prompts are read into
    uint64_t tables_ = 0;        // bytes that a context reserves for graphs
    bool kept_ = false;          // the context has the kept types, and they are other ones
    bool reads_prompts_ = false; // the context has the types and compute buffers for prompts
    std::string unsupported_;
    llama_context_ptr ctx_;
    std::unique_ptr<lookm::compressor> compressor_;
};

} // namespace lookm
