#pragma once

#include "llama.h"

#include <span>
#include <vector>

namespace lookm {

// The rows of the model's token embedding, [tokens.size(), n_embd] in f32. Throws
// std::runtime_error for a model without one.
std::vector<float> token_embeddings(const llama_model * model, std::span<const llama_token> tokens);

} // namespace lookm
