#pragma once

#include "llama.h"

#include <span>
#include <vector>

namespace lookm {

// The rows of the model's token embedding, [tokens.size(), n_embd] in f32. Throws
// std::runtime_error for a model without one.
std::vector<float> token_embeddings(const llama_model * model, std::span<const llama_token> tokens);

// Whether the model computes the same for these rows as for the tokens, whatever else is in the
// batch. Some scale only the rows of tokens, or give each layer a row of its own for each token.
// False for all but the architectures that this was tried with (tests/zoo/test_joined.py).
bool reads_rows_as_tokens(const llama_model * model);

} // namespace lookm
