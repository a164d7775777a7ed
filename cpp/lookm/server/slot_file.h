#pragma once

#include "llama.h"

#include <cstddef>
#include <string>

namespace lookm::server {

// llama_state_seq_save_file and _load_file with the same results, made safe. A file is llama.cpp's
// and a checksum behind it; it is written beside its place and then moved there. One that is
// damaged is refused (0, with a line in the log). llama-server's own, without a checksum, are taken
// where their cells have positions that a prompt can have.
size_t save_slot_file(llama_context * ctx, const char * path, llama_seq_id seq,
                      const llama_token * tokens, size_t n_tokens);
size_t load_slot_file(llama_context * ctx, const char * path, llama_seq_id seq,
                      llama_token * tokens, size_t capacity, size_t * n_tokens);

// Why a file is damaged, as far as its checksum says; "" where it is not, or has none.
std::string damage_of(const std::string & path);

} // namespace lookm::server
