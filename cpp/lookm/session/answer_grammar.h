#pragma once

#include "lookm/prompt/chat_prompt.h"
#include "lookm/session/sampling_options.h"
#include "lookm/session/utf8_tail.h"

#include "llama-cpp.h"

#include <optional>
#include <string>
#include <utility>

namespace lookm {

// What an answer has to match, token by token. llama.cpp's grammars let bytes through that are not
// UTF-8; here, what matches is UTF-8 as well.
class answer_grammar {
  public:
    // The user's grammar or schema, or what the chat template asks of the answer to this prompt
    // (null: nothing); nullopt: any answer will do. Throws bad_argument for one that cannot be
    // used.
    static std::optional<answer_grammar> of(const sampling_options & sampling,
                                            const llama_vocab * vocab, const chat_prompt * prompt);

    bool allows(llama_token token) const;
    void apply(llama_token_data_array & candidates) const; // rules out what does not match
    // Goes on after this token, which is allowed.
    void accept(llama_token token);

  private:
    answer_grammar(llama_sampler_ptr grammar, const llama_vocab * vocab)
        : grammar_(std::move(grammar)), vocab_(vocab) {}
    static answer_grammar of_form(const chat_prompt & prompt, const llama_vocab * vocab);
    bool is_on() const;
    std::string piece_of(llama_token token) const;
    bool is_text(llama_token token) const; // UTF-8 behind the answer so far

    llama_sampler_ptr grammar_;
    const llama_vocab * vocab_;
    utf8_tail tail_;
    // Where the grammar waits for a tool call: null, or what tells reasoning, in which there is
    // none.
    llama_sampler_ptr reasoning_;
};

} // namespace lookm
