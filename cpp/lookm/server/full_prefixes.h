#pragma once

#include "lookm/cache/sequence_bytes.h"
#include "lookm/core/byte_budget.h"

#include "server-common.h"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace lookm::server {

// A prompt as it was read, before any of its cells was evicted.
struct full_prefix {
    server_tokens tokens;
    std::vector<uint8_t> cells; // in llama.cpp's own form, maybe of other types

    size_t bytes() const { return cells.size() + tokens.size() * sizeof(llama_token); }
};

// Prompts in host memory whose beginning other prompts may go on from. A slot holds what
// compression has left, which serves the next turn alone; these serve the same prompt again,
// another question about the same images, or another user.
class full_prefixes {
  public:
    // Forgets all of another context. type: of K and V here; "": that of the context. Throws
    // bad_argument "kv_prefix_type" for one that this model cannot have.
    void attach(llama_context * ctx, const std::string & type);
    void limit(size_t bytes) { kept_.limit(bytes); }
    size_t bytes() const { return kept_.bytes(); }

    struct match {
        std::shared_ptr<const full_prefix> from; // null: none helps
        int32_t n_tokens = 0;                    // of it, up to the end of an image
    };
    // The longest beginning of a prompt that is there, of n_most tokens at most. It ends with an
    // image, so that what follows is read in the same batches as without it.
    match find(const server_tokens & prompt, int32_t n_most);

    // Keeps a sequence's cells, unless they take more than the limit or than memory has left.
    void keep(llama_seq_id seq, const server_tokens & tokens);
    // Puts a prefix's cells into a sequence. Returns whether llama.cpp can.
    bool restore(llama_seq_id seq, const full_prefix & from) const;

    // The prefix that these tokens begin with, up to their last image, as bytes for another server
    // of the same model and types; empty without one.
    std::vector<uint8_t> saved(const server_tokens & tokens);
    // Keeps what saved() gave. Throws std::exception for other bytes, and for other types.
    void take(std::span<const uint8_t> saved);

  private:
    llama_context * ctx_ = nullptr;
    sequence_rest rest_;
    byte_budget<full_prefix> kept_;
};

// The end of the last image among the first n tokens; 0 without any.
int32_t end_of_last_image(const server_tokens & tokens, int32_t n);

} // namespace lookm::server
