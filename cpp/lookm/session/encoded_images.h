#pragma once

#include "lookm/core/byte_budget.h"
#include "lookm/prompt/prompt.h"

#include <memory>
#include <span>
#include <vector>

namespace lookm {

// What the image encoder has made of pictures. A picture that comes again, anywhere in any prompt,
// is not encoded again.
class encoded_images {
  public:
    // n_embd: floats of a cell (llama_model_n_embd_inp)
    encoded_images(size_t most_bytes, int32_t n_embd) : kept_(most_bytes), n_embd_(n_embd) {}

    struct found {
        std::span<float> embeddings; // [n_encoded, n_embd], valid until the next call
        bool is_new;                 // the encoder ran
    };
    // Throws std::runtime_error if the encoder fails.
    found of(mtmd_context * mmproj, const prompt_chunk & chunk);
    size_t bytes() const { return kept_.bytes(); }

  private:
    struct encoded {
        std::vector<char> key; // prompt_chunk::encoded_key
        std::vector<float> embeddings;
        size_t bytes() const { return key.size() + embeddings.size() * sizeof(float); }
    };
    std::shared_ptr<const encoded> find(const std::vector<char> & key) const;

    byte_budget<encoded> kept_;
    int32_t n_embd_;
    std::vector<float> last_; // what of() has returned; mtmd takes no const pointer
};

} // namespace lookm
