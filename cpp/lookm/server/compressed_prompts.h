#pragma once

#include "lookm/server/settings.h"
#include "lookm/server/slot_records.h"

#include "lookm/core/byte_budget.h"

#include "server-common.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace lookm::server {

// What is left of a whole prompt after its compression, and what it says about the first token of
// the answer.
struct compressed_prompt {
    server_tokens tokens;
    std::string adapters; // as in slot_prompt
    asked_ratio ratio;
    prompt_cells counts;
    std::vector<uint8_t> cells; // in llama.cpp's own form
    std::vector<float> logits;  // after the last token

    size_t bytes() const {
        return cells.size() + tokens.size() * sizeof(llama_token) + logits.size() * sizeof(float);
    }
};

// Compressed prompts in host memory. The same prompt again, such as for another answer to it, need
// not be read or compressed again: the question's attention has chosen these cells already.
class compressed_prompts {
  public:
    // Forgets all of another context.
    void attach(llama_context * ctx);
    void limit(size_t bytes) { kept_.limit(bytes); }
    size_t bytes() const { return kept_.bytes(); }

    // The one of exactly this prompt; null if there is none.
    std::shared_ptr<const compressed_prompt>
    find(const server_tokens & prompt, const std::string & adapters, const asked_ratio & ratio);

    // Keeps what a sequence holds of a prompt. Its last token must be the last one that was
    // decoded. Does nothing if its logits are not there, or if the cells take more than the limit
    // or than memory has left.
    void keep(llama_seq_id seq, const server_tokens & prompt, const std::string & adapters,
              const asked_ratio & ratio, const prompt_cells & counts);
    // Puts the cells in place of all that a sequence holds. Returns whether llama.cpp can.
    bool restore(llama_seq_id seq, const compressed_prompt & from) const;
    // Replaces the logits of the token that was decoded last.
    void restore_logits(const compressed_prompt & from) const;

  private:
    llama_context * ctx_ = nullptr;
    byte_budget<compressed_prompt> kept_;
};

} // namespace lookm::server
