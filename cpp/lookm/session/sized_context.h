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
// when a context is made, so giving memory back means another context: the sequence moves over, and
// the old context is freed.
//
// Where options keep other types than a prompt is read into, what moves to a context that only
// answers is stored in those.
//
// With options.shrink off there is one context for good, of n_ctx cells or as many as the cap
// allows.
class sized_context {
  public:
    // Starts with the smallest context there is, to learn what the model can do. Throws as
    // make_context does, and std::invalid_argument for a cap or kept types that this model cannot
    // have.
    sized_context(llama_model * model, const model_options & options);

    llama_context * get() const { return ctx_.get(); }
    lookm::compressor * compressor() const {
        return compressor_.get();
    } // null where unsupported, and after move()
    const std::string & unsupported() const {
        return unsupported_;
    } // why not to be compressed, "" when it can be

    int32_t limit() const {
        return limit_;
    } // n_ctx: cells that a context may grow to where there is no cap
    int32_t cap() const { return cap_; }   // most cells in use, 0: any number
    int32_t most() const;                  // cells allocated at most
    int32_t size() const;                  // cells allocated now
    std::optional<int32_t> n_used() const; // cells taken, where the memory has cells that fill up
    size_t bytes() const;                  // of the KV buffers allocated now
    size_t bytes_per_cell() const { return kv_cache::bytes_per_token(ctx_.get()); }
    bool keeps_other_types() const { return other_types_; } // than prompts are read into
    int32_t n_batch() const { return static_cast<int32_t>(llama_n_batch(ctx_.get())); }

    void clear(); // forgets the sequence

    // An empty context of at least n_cells, at most limit(). Throws std::invalid_argument for more
    // than memory holds.
    void open(int32_t n_cells);

    // An empty context of at least n_cells that reads no prompts, at most limit(): what move()
    // makes.
    void open_for_answer(int32_t n_cells);

    // Carries the sequence over to a context of at least n_cells (at most limit()), if that is not
    // the size it has. Exact, but where it is kept in other types: the next token's logits are
    // those without the move; logits already computed are gone. Never holds more than both the
    // larger context and a copy of the sequence's cells, or the new context and two copies in both
    // types. Throws std::runtime_error when memory runs out; the sequence is lost then. to_read:
    // more of a prompt will follow, which the context is to read and compress.
    void move(int32_t n_cells, bool to_read = false);

    // What another has, as move() would leave it there. Throws as move() does.
    void take_over(const sized_context & other, int32_t n_cells);

    std::vector<uint8_t> sequence() const; // its cells and their rows
    // An empty context of at least n_cells takes them in; std::invalid_argument for what is no such
    // sequence.
    void restore(std::span<const uint8_t> sequence, int32_t n_cells);

  private:
    int32_t read_cap() const;
    int32_t cells_for(int32_t n_cells) const;
    void check_memory(int32_t n_cells) const;
    void make_compressor();
    void check_kept_types();
    std::vector<cache_form> forms() const; // nothing where all contexts have one
    void put(std::vector<uint8_t> sequence, const std::vector<cache_form> & form);
    void make(int32_t n_cells, int32_t n_ubatch, bool kept = false);

    llama_model * model_;
    model_options options_;
    int32_t limit_;
    int32_t cap_ = 0;
    size_t bytes_per_cell_ = 0;
    uint64_t tables_ = 0;      // bytes that a context reserves for graphs
    bool other_types_ = false; // options keep them
    bool kept_ = false;        // the context has them
    bool reads_prompts_ =
        false; // the context has compute buffers for whole ubatches, and the types
    std::string unsupported_;
    llama_context_ptr ctx_;
    std::unique_ptr<lookm::compressor> compressor_;
};

} // namespace lookm
