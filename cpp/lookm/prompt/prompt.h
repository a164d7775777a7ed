#pragma once

#include "lookm/core/method.h"
#include "lookm/prompt/image_chunks.h"

#include "llama-cpp.h"
#include "mtmd.h"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace lookm {

// A run of text tokens, or one image or tile of an image (never both).
struct prompt_chunk {
    std::vector<llama_token> tokens;
    std::vector<token_kind>
        kind; // of each token; image: of a context, which counts as an image does
    const mtmd_input_chunk * image = nullptr; // owned by prompt::images

    int32_t n_cells() const;
    int32_t n_context() const;
};

struct prompt {
    std::vector<prompt_chunk> chunks;
    std::vector<mtmd::input_chunks_ptr> images; // what chunks point to
    std::vector<image_size> image_sizes;        // of the images as they were given

    int32_t n_images =
        0; // as given; a model may cut one into several tiles, each a chunk of its own

    int32_t n_cells() const;
    int32_t n_tiles() const;               // chunks that the image encoder sees
    int32_t n_context() const;             // cells of contexts
    std::vector<token_kind> kinds() const; // of every cell
};

// Strings that stand for an image and for a context in a formatted prompt.
struct prompt_markers {
    std::string image;
    std::string context;
};

// Splits text that holds one marker per image and one per context: a text whose cells are evictable
// as an image's are, and in which control tokens are text. mmproj may be null when there are no
// images. begins: no text comes before it, so that it gets the tokens that begin one. Images are
// decoded one by one. Throws std::invalid_argument when markers and images or contexts do not
// match, or an image cannot be used.
prompt tokenize(const llama_model * model, const mtmd_context * mmproj, const std::string & text,
                const prompt_markers & markers, std::span<const image_source> images,
                std::span<const std::string> contexts, bool begins = true);

// Markers that no user text holds by chance.
prompt_markers random_markers();

} // namespace lookm
