#pragma once

// llama.cpp's caches from within, for the files that kv_cache.h is made of. No other file may
// include this one.

#include "lookm/cache/kv_cache.h"

#include "llama-context.h"
#include "llama-kv-cache-iswa.h"
#include "llama-kv-cache.h"
#include "llama-memory-hybrid.h"
#include "llama-model.h"

#include <cstdint>
#include <vector>

namespace lookm {

// The cache whose layers see every earlier token, or nullptr. Compares exact types, as a derived
// cache may have more state.
llama_kv_cache * full_attention_cache(llama_memory_i * memory);

// The cell of each stream at which llama.cpp starts to look for a free one, and so the place where
// an isolated sequence is read to.
std::vector<uint32_t> & heads_of(llama_kv_cache & kv);

// V's storage, found through a view of one cell, as llama.cpp has no getter for it.
ggml_tensor * v_storage(const llama_kv_cache & kv, int32_t il, bool & transposed);

// The sequence that marks cells as reserved for the isolated sequence. Contexts that use this id do
// not isolate.
constexpr llama_seq_id seq_held = LLAMA_MAX_SEQ - 1;

// The isolated sequence. While it is shown, `cells` and the cache's own cells are exchanged.
struct kv_cache::isolated {
    llama_seq_id seq;
    int32_t n;            // cells [0, n) are reserved for it
    llama_kv_cells cells; // its own cells only; while it is shown, the cells of all sequences
    uint32_t head;        // heads_of() that belongs to `cells`
    bool shown = false;
};

} // namespace lookm
