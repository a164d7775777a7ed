#pragma once

#include "lookm/session/answer_grammar.h"
#include "lookm/session/sampling_options.h"

#include "llama-cpp.h"

#include <optional>
#include <vector>

namespace lookm {

// Chooses the tokens of one answer.
class token_sampler {
  public:
    // prompt: what is answered, if a chat template says which form the answer has; or null. Throws
    // bad_argument for an option that is out of range, and for a grammar or a schema that cannot
    // be used.
    token_sampler(const sampling_options & sampling, const llama_vocab * vocab,
                  const chat_prompt * prompt = nullptr);

    // The next token of the answer. logits: one for each token of the vocabulary. Throws
    // std::runtime_error if the grammar allows none.
    llama_token sample(const float * logits);

  private:
    void fill(const float * logits);

    llama_sampler_ptr chain_;
    std::optional<answer_grammar> grammar_; // none: any token
    std::vector<llama_token_data> tokens_;
};

} // namespace lookm
