#pragma once

#include "lookm/cache/sequence_bytes.h"
#include "lookm/cache/sequence_sums.h"
#include "lookm/core/byte_budget.h"

#include "server-common.h"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace lookm::server {

// The beginning of a prompt, up to the end of an image or of all, before any of its cells was
// evicted.
struct full_prefix {
    server_tokens tokens;
    std::string adapters;       // as in slot_prompt
    std::vector<uint8_t> cells; // in llama.cpp's own form, maybe of other types
    sequence_sums sums;         // of its queries, if the method sums those of all

    size_t bytes() const {
        return cells.size() + tokens.size() * sizeof(llama_token) + sums.bytes();
    }
};

// Prompts in host memory whose beginning other prompts may go on from. A slot holds what
// compression has left, which serves the next turn alone; these serve the same prompt again,
// another question about the same images, or another user.
class full_prefixes {
  public:
    // Forgets all of another context. type: of K and V here; "": that of the context. sums: whether
    // prompts go on from the attention of the queries before as well. Throws bad_argument
    // "kv_prefix_type" for one that this model cannot have.
    void attach(llama_context * ctx, const std::string & type, bool sums);
    void limit(size_t bytes) { kept_.limit(bytes); }
    size_t bytes() const { return kept_.bytes(); }

    struct match {
        std::shared_ptr<const full_prefix> from; // null: none helps
        int32_t n_tokens = 0;                    // of it
    };
    // The last place, after n tokens at most, that a prompt can go on from, so that what follows is
    // read in the same batches as without it: the end of an image or, if what is kept can be cut,
    // of a whole batch of the text after it. 0: none.
    int32_t last_end(const server_tokens & tokens, int32_t n) const;
    // The longest beginning of a prompt that was read with these adapters, up to such a place. It
    // may be the beginning of what is kept, unless sums or the model's memory are those of its end.
    match find(const server_tokens & prompt, const std::string & adapters, int32_t n_most);

    // Keeps a sequence's cells, which are those of its tokens, unless they take more than the limit
    // or than memory has left.
    void keep(llama_seq_id seq, const server_tokens & tokens, const std::string & adapters,
              sequence_sums sums);
    // Puts a prefix's cells into a sequence. Returns whether llama.cpp can.
    bool restore(llama_seq_id seq, const full_prefix & from) const;

    // What is kept of these tokens, at least up to their last image, as bytes for another server of
    // the same model and types; empty if nothing is, or only as the beginning of other tokens.
    std::vector<uint8_t> saved(const server_tokens & tokens);
    // Keeps what saved() gave. Throws std::exception for other bytes, and for other types.
    void take(std::span<const uint8_t> saved, compressor & c);

  private:
    llama_context * ctx_ = nullptr;
    sequence_rest rest_;
    bool sums_ = false;
    bool only_whole_ = false; // a prompt cannot go on from a part of what is kept
    int32_t text_step_ = 0;   // tokens of a whole batch of text
    byte_budget<full_prefix> kept_;
};

// The end of the last image among the first n tokens; 0 without any.
int32_t end_of_last_image(const server_tokens & tokens, int32_t n);

// Its first n tokens, which end with text or a whole image, without pixels. server_tokens has
// keep_first(), which throws if that is between two images.
server_tokens first_of(const server_tokens & tokens, int32_t n);

} // namespace lookm::server
