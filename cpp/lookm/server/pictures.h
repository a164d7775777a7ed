#pragma once

#include "server-common.h"

#include <cstdint>
#include <span>

namespace lookm::server {

// Throws std::invalid_argument, which becomes status 400, for an encoded image of more pixels than
// --image-max-pixels, whose header alone is read, and for a JPEG that was cut: llama-server's
// decoder fills what is missing. Other files pass: whoever decodes them will say what they are.
void check_picture(std::span<const uint8_t> file);

// process_mtmd_prompt, which holds all images of a prompt at full size until it has prepared the
// last one: here one after the other is decoded, prepared and freed. The tokens are the same.
server_tokens process_prompt(mtmd_context * mctx, const std::string & prompt,
                             const std::vector<raw_buffer> & files,
                             const mtmd_helper_init_opt & init_opt, bool is_placeholder = false);

} // namespace lookm::server
