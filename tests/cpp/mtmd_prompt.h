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

// A prompt with images as llama.cpp's multimodal library reads it: its tokenizer, encoder, batches
// and counts, without any code of lookm. Memory that an encoder reads before anything was written
// to it is NaN.
class mtmd_prompt {
  public:
    // text contains mtmd's default marker once for each image.
    mtmd_prompt(llama_model * model, const std::string & mmproj_path, const std::string & text,
                const std::vector<mtmd_image> & images);

    int32_t n_tokens() const;             // cells
    int32_t n_pos() const;                // positions; with M-RoPE fewer than cells
    std::vector<int32_t> n_image() const; // cells of each image chunk (an image or a tile)
    std::vector<bool> is_text() const;    // for each cell
    bool has_wider_embeddings() const;    // deepstack: an image cell has more than n_embd numbers

    std::vector<std::vector<llama_token>> tokens() const; // of each chunk; empty for images
    // Each image chunk as mtmd saves it, without pixels.
    std::vector<std::string> saved_images() const;
    // The encoder's output for each image chunk, cell by cell.
    std::vector<std::vector<float>> embeddings() const;

    // Reads the prompt into sequence 0. Returns the position of the next token.
    llama_pos evaluate(llama_context * ctx) const;
    // The same with some cells of each image chunk, each at the position that the model's rotary
    // embedding allows: with M-RoPE its own column and row, else after the one before.
    llama_pos evaluate(llama_context * ctx, const std::vector<std::vector<int32_t>> & cells) const;

  private:
    const llama_model * model_;
    mtmd::context_ptr mtmd_;
    mtmd::input_chunks_ptr chunks_;
};
