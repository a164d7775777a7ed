#pragma once

#include "lookm/core/method.h"

#include "llama.h"

#include <span>
#include <string>
#include <vector>

namespace lookm {

// Tokens of the text between two images, and which of them are evictable as an image's cells are.
struct text_run {
    std::vector<llama_token> tokens;
    std::vector<token_kind> kind; // of each token; image: it belongs to a context
};

// Tokens of a text without what a vocabulary puts around it. Throws std::invalid_argument where it
// has none for a byte.
std::vector<llama_token> tokens_of(const llama_vocab * vocab, const std::string & text,
                                   bool parse_special);

// Tokenizes text in which marker stands for each of contexts, in order and as often as there are
// contexts.
//
// What lies before, inside and after a context is tokenized for itself, so that no token crosses
// its ends:
//   "USER: <marker> Who?", {"Bo</s> Al"}  ->  tokens of "USER: " | of "Bo</s> Al" | of " Who?"
// Control tokens are read in text, never in contexts: the </s> above stays four characters. Where
// the vocabulary puts a space before a text (SentencePiece), it does so as if the whole were one
// text: first of all and after control tokens.
text_run tokenize_run(const llama_model * model, const std::string & text,
                      const std::string & marker, std::span<const std::string> contexts);

} // namespace lookm
