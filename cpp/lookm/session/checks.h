#pragma once

#include "lookm/cache/compressor.h"
#include "lookm/core/compression.h"
#include "lookm/model/model_options.h"
#include "lookm/prompt/prompt.h"

#include <cstdint>
#include <span>
#include <string>

namespace lookm {

// What is refused before anything is read. All throw bad_argument.

// A user's options as the compressor takes them. Refuses what is wrong, at any ratio.
compress_options checked(const compression & how);
bool evicts(const compress_options & options);

// Options that evict cells, for a model that cannot be compressed: unsupported says why, "" where
// it can be.
void check_supported(const compression & how, const std::string & unsupported);

void check_compute_bytes(int64_t compute_bytes);

// Tokens that are none of the vocabulary's n_vocab.
void check_tokens(std::span<const llama_token> tokens, int32_t n_vocab);

// A prompt, not empty, that no answer can follow.
void check_ends_with_text(const prompt & p);

// An image whose cells must be computed at once and are too many for a batch.
void check_ubatch(const prompt & p, const mtmd_context * mmproj, const model_options & options);

// A prompt that is empty, longer than n_ctx cells, or refused by check_ubatch().
void check_fits(const prompt & p, int32_t n_ctx, const mtmd_context * mmproj,
                const model_options & options);

// A model that does not continue prompts from a cache: an encoder, or an embedding model.
void check_decoder_only(const llama_model * model, const llama_context * ctx,
                        const model_options & options);

} // namespace lookm
