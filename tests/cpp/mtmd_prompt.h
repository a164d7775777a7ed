#pragma once

#include "llama-cpp.h"
#include "mtmd.h"

#include <cstdint>
#include <string>
#include <vector>

// RGB, row-major [height, width, 3].
struct mtmd_image {
    std::vector<uint8_t> data;
    uint32_t width, height;
};

// A prompt with images as llama.cpp's own multimodal library reads it: its tokenizer, its encoder,
// its batches, and its counts. Nothing of lookm is in here. Memory that an encoder reads and nobody
// has written is NaN.
class mtmd_prompt {
  public:
    // text holds mtmd's default marker once for each image
    mtmd_prompt(llama_model * model, const std::string & mmproj_path, const std::string & text,
                const std::vector<mtmd_image> & images);

    int32_t n_tokens() const; // cells
    int32_t n_pos() const;    // positions; with M-RoPE fewer than cells
    std::vector<int32_t>
    n_image() const;                   // cells of each image chunk: of an image, or of a tile of it
    std::vector<bool> is_text() const; // of each cell
    bool has_wider_embeddings() const; // deepstack: an image cell brings more than n_embd numbers

    std::vector<std::vector<llama_token>> tokens() const; // of each chunk, none of an image's
    std::vector<std::string>
    saved_images() const; // each image chunk as mtmd saves it, without pixels
    std::vector<std::vector<float>>
    embeddings() const; // what the encoder makes of each image chunk, cell by cell

    llama_pos evaluate(llama_context * ctx) const; // into sequence 0; the next token's position

  private:
    const llama_model * model_;
    mtmd::context_ptr mtmd_;
    mtmd::input_chunks_ptr chunks_;
};
