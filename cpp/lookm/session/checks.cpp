#include "lookm/session/checks.h"

#include "lookm/core/bad_argument.h"

#include <algorithm>
#include <sstream>
#include <variant>

namespace lookm {

namespace {

constexpr int64_t least_compute_bytes = 1 << 20;
constexpr int64_t most_compute_bytes = int64_t(1) << 40;

} // namespace

compress_options checked(const compression & how) {
    return {.method = resolve(how), .ratios = split(how), .automatic = automatic(how)};
}

bool evicts(const compress_options & o) {
    return o.method.evicts && (o.automatic || o.ratios.important + o.ratios.recent < 1.0);
}

void check_supported(const compression & how, const std::string & unsupported) {
    if (evicts(checked(how)) && !unsupported.empty()) {
        std::ostringstream ratio;
        std::visit([&ratio](const auto & r) { ratio << r; }, how.kv_ratio);
        throw bad_argument("kv_ratio", ratio.str() + " asks for compression, but " + unsupported +
                                           " (kv_ratio 1 runs this model uncompressed)");
    }
}

void check_compute_bytes(int64_t compute_bytes) {
    if (compute_bytes < least_compute_bytes || compute_bytes > most_compute_bytes) {
        throw bad_argument("compute_bytes", std::to_string(compute_bytes) + ", expected " +
                                                std::to_string(least_compute_bytes) +
                                                " (1 MiB) to " +
                                                std::to_string(most_compute_bytes) + " (1 TiB)");
    }
}

void check_tokens(std::span<const llama_token> tokens, int32_t n_vocab) {
    for (const llama_token token : tokens) {
        if (token < 0 || token >= n_vocab) {
            throw bad_argument("tokens", std::to_string(token) + " is none of the vocabulary's " +
                                             std::to_string(n_vocab));
        }
    }
}

void check_ends_with_text(const prompt & p) {
    if (p.chunks.back().image) { // mtmd asks for no logits of an image
        throw bad_argument("messages", "the prompt ends with an image; expected text after it");
    }
}

void check_ubatch(const prompt & p, const mtmd_context * mmproj, const model_options & options) {
    const int32_t n_at_once = std::min(options.n_batch, options.n_ubatch);
    for (const prompt_chunk & c : p.chunks) {
        if (c.image && mtmd_decode_use_non_causal(mmproj, c.image) && c.n_cells() > n_at_once) {
            throw bad_argument(options.n_batch < options.n_ubatch ? "n_batch" : "n_ubatch",
                               std::to_string(n_at_once) +
                                   " is too small; this model needs at least the " +
                                   std::to_string(c.n_cells()) + " cells of one image");
        }
    }
}

void check_fits(const prompt & p, int32_t n_ctx, const mtmd_context * mmproj,
                const model_options & options) {
    const int32_t n = p.n_cells();
    if (n == 0) {
        throw bad_argument("messages", "the prompt is empty");
    }
    if (n > n_ctx) {
        throw bad_argument("prompt", std::to_string(n) + " cells (" + std::to_string(p.n_images) +
                                         " images) do not fit into n_ctx " + std::to_string(n_ctx));
    }
    check_ubatch(p, mmproj, options);
}

void check_decoder_only(const llama_model * model, const llama_context * ctx,
                        const model_options & options) {
    // llama.cpp aborts on a decoder that waits for its encoder, and an embedding model has no next
    // token to sample.
    if (llama_model_has_encoder(model) || !llama_get_memory(ctx)) {
        throw bad_argument("model_path",
                           "\"" + options.model_path +
                               "\" has an encoder or no memory of earlier tokens; expected a "
                               "decoder-only model");
    }
}

} // namespace lookm
