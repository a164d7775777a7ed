#pragma once

#include "lookm/core/method.h"
#include "lookm/core/pruning.h"
#include "lookm/prompt/image_chunks.h"

#include "llama-cpp.h"
#include "mtmd.h"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace lookm {

// Either a run of text tokens, or a piece of an image (the whole or a tile).
struct prompt_chunk {
    std::vector<llama_token> tokens;
    std::vector<token_kind> kind; // of each token; `image` if it belongs to a context
    // owned by the prompt; has pixels unless its image is late
    const mtmd_input_chunk * image = nullptr;
    int32_t tile = 0, n_tiles = 1; // which of its image's chunks this is
    late_image * late = nullptr;   // owned by the prompt
    // of an image that is pruned: all of its cells, of which `image` has those that are read
    const mtmd_input_chunk * whole = nullptr;

    // What the chunk of an image is recognized by when it comes again. Empty if nobody can tell, as
    // the image has no id.
    std::vector<char> image_key() const;
    // The same for what the encoder makes of it.
    std::vector<char> encoded_key() const;
    const mtmd_input_chunk * encoded() const { return whole ? whole : image; }
    const mtmd_input_chunk * with_pixels() const { return late ? late->piece(tile) : encoded(); }
    int32_t n_cells() const;
    int32_t n_encoded() const; // cells of an image that the encoder makes
    int32_t n_context() const;
};

// A part of a prompt that is decoded by itself: an image's chunk, or tokens [first, first + n) of a
// chunk of text. Text is divided after each context, so that the question after it is read in the
// same batches whether or not the context is read again.
struct prompt_piece {
    size_t chunk;
    int32_t first, n;
};

struct prompt {
    std::vector<prompt_chunk> chunks;
    image_chunks media; // what chunks point to

    // images as given; a model may cut one into several tiles, each of which is a chunk
    int32_t n_images = 0;
    pruning pruned = {};               // how images are pruned
    std::vector<llama_token> question; // by which they are, if the pruner asks for it

    int32_t n_cells() const;
    int32_t n_tiles() const;               // chunks that the image encoder sees
    int32_t n_context() const;             // cells of contexts
    std::vector<token_kind> kinds() const; // of every cell
    std::vector<prompt_piece> pieces() const;
    bool is_evictable(const prompt_piece & piece) const; // an image, or text with a context
    size_t n_pieces_before_question() const;             // up to the last of these
};

// The strings that stand for an image and for a context in a formatted prompt.
struct prompt_markers {
    std::string image;
    std::string context;
};

// Tokenizes a text that contains one marker for each image and one for each context. A context is a
// text whose cells may be evicted like those of an image, and in which control tokens are plain
// text. mmproj may be null without images. begins: whether the text begins a sequence, so that it
// gets the tokens for that. Images are decoded one by one. Throws bad_argument "images" or
// "contexts" if their number is not that of the markers or an image cannot be used, and "mmproj" if
// it does not fit the model.
prompt tokenize(const llama_model * model, const mtmd_context * mmproj, const std::string & text,
                const prompt_markers & markers, std::span<const image_source> images,
                std::span<const std::string> contexts, bool begins = true);

// Random markers, which no text of a user contains by chance.
prompt_markers random_markers();

} // namespace lookm
