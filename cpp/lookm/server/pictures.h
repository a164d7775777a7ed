#pragma once

#include "lookm/server/prepared_images.h"

#include "server-common.h"

#include <cstdint>
#include <span>
#include <vector>

namespace lookm::server {

// Throws std::invalid_argument, which becomes status 400, for an image file with more pixels than
// --image-max-pixels according to its header, and for a JPEG that is cut off, because
// llama-server's decoder would make up the rest. Accepts all other files, even those that are no
// images: their decoder reports them.
void check_picture(std::span<const uint8_t> file);

// Images of earlier requests, up to --image-cache bytes.
prepared_images & prepared();

// Returns the same tokens as process_mtmd_prompt, which holds all images of a prompt at full size
// until it has prepared the last one. Here each image is decoded, prepared and freed in turn, and
// not decoded if it is among prepared().
server_tokens process_prompt(mtmd_context * mctx, const std::string & prompt,
                             const std::vector<raw_buffer> & files,
                             const mtmd_helper_init_opt & init_opt, bool is_placeholder = false);

// The same as tokenize_input_prompts, whose prompts may bring images of their own ("prompt_string"
// and "multimodal_data").
std::vector<server_tokens> tokenize_prompts(const llama_vocab * vocab, mtmd_context * mctx,
                                            const json & prompts, bool add_special,
                                            bool parse_special,
                                            const mtmd_helper_init_opt & init_opt);

} // namespace lookm::server
