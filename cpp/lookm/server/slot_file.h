#pragma once

#include "llama.h"

#include <cstddef>

namespace lookm::server {

// llama_state_seq_save_file and _load_file, the same format and results, made safe: the file is written beside its
// place and then moved there, and one that ends too early is refused (0, with a line in the log).
size_t save_slot_file(llama_context * ctx, const char * path, llama_seq_id seq, const llama_token * tokens,
                      size_t n_tokens);
size_t load_slot_file(llama_context * ctx, const char * path, llama_seq_id seq, llama_token * tokens, size_t capacity,
                      size_t * n_tokens);

} // namespace lookm::server
