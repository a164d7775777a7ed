#pragma once

#include "lookm/core/method.h"

#include "llama.h"

#include <span>
#include <string>
#include <vector>

namespace lookm {

// The tokens of the text between two images, and which of them may be evicted like an image.
struct text_run {
    std::vector<llama_token> tokens;
    std::vector<token_kind> kind; // of each token; `image` if it belongs to a context
};

// The tokens of a text, without those that a vocabulary puts around a whole text. parse_special:
// whether to read control tokens. Throws std::invalid_argument if the vocabulary has no token for a
// byte of the text.
std::vector<llama_token> tokens_of(const llama_vocab * vocab, const std::string & text,
                                   bool parse_special);

// Tokenizes a text in which marker stands for each of the contexts, in their order.
//
// The text before, inside and after a context is tokenized separately, so that no token crosses its
// ends:
//   "USER: <marker> Who?", {"Bo</s> Al"}  ->  tokens of "USER: " | of "Bo</s> Al" | of " Who?"
// Control tokens are read in text, never in contexts: the </s> above stays four characters. If the
// vocabulary puts a space before a text (SentencePiece), it does so as if the whole were one text:
// at the very beginning and after control tokens.
text_run tokenize_run(const llama_model * model, const std::string & text,
                      const std::string & marker, std::span<const std::string> contexts);

} // namespace lookm
