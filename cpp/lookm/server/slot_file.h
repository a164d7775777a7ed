#pragma once

#include "llama.h"

#include <cstddef>
#include <string>

namespace lookm::server {

// Safe versions of llama_state_seq_save_file and _load_file, with the same results. A file is
// llama.cpp's, followed by a checksum. It is written under another name and then renamed. A damaged
// file is refused (result 0, and a line in the log). Files without a checksum, which llama-server
// wrote, are accepted if their cells have positions that a prompt can have.
size_t save_slot_file(llama_context * ctx, const char * path, llama_seq_id seq,
                      const llama_token * tokens, size_t n_tokens);
size_t load_slot_file(llama_context * ctx, const char * path, llama_seq_id seq,
                      llama_token * tokens, size_t capacity, size_t * n_tokens);

// The full prompt of a slot file, as far as it is kept (full_prefixes.h), is in PATH.prefix. It
// lets another server go on from it; nothing is lost without it, and a bad one is not used (a line
// in the log).

// Why a file is damaged according to its checksum; "" if it is not, or has no checksum.
std::string damage_of(const std::string & path);

} // namespace lookm::server
