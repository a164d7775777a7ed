#include "lookm/session/encoded_images.h"

#include "lookm/host/log.h"
#include "lookm/host/out_of_memory.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace lookm {

std::shared_ptr<const encoded_images::encoded>
encoded_images::find(const std::vector<char> & key) const {
    const auto at = std::find_if(kept_.begin(), kept_.end(),
                                 [&](const auto & image) { return image->key == key; });
    return key.empty() || at == kept_.end() ? nullptr : *at;
}

encoded_images::found encoded_images::of(mtmd_context * mmproj, const prompt_chunk & chunk) {
    std::vector<char> key = chunk.encoded_key();
    if (const auto known = find(key)) {
        kept_.use(known);
        last_ = known->embeddings;
        return {last_, false};
    }
    forget_errors();
    if (mtmd_encode_chunk(mmproj, chunk.with_pixels()) != 0) {
        throw_logged<std::runtime_error>("image encoder failed: ");
    }
    const std::span<float> embeddings(mtmd_get_output_embd(mmproj),
                                      static_cast<size_t>(chunk.n_encoded()) * n_embd_);
    if (kept_.fits(embeddings.size_bytes()) && !key.empty()) {
        kept_.add(std::make_shared<const encoded>(
            encoded{std::move(key), {embeddings.begin(), embeddings.end()}}));
    }
    return {embeddings, true};
}

} // namespace lookm
