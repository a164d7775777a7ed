#pragma once

#include "common.h"

#include <cstdint>

namespace lookm::server {

// What --kv-cells or --kv-memory gives each slot: an equal part of the cache, so that an answer
// does not depend on what other slots hold. -c then sets how many tokens a slot's prompt and answer
// may have.
struct cache_size {
    int32_t n_tokens = 0; // of a slot; 0: what the model was trained with
    int32_t n_cells = 0;  // of a slot; 0: there is no cap
};

// Reads params.n_ctx as the tokens of a slot, and sets it to the cells of the cache. Limits batches
// to a quarter of a slot's cells. before: the result of an earlier call with the same params, which
// no longer hold what -c says: a server that wakes up loads its model again. Throws
// std::invalid_argument if the cap is too small or the model cannot be compressed.
cache_size apply_cap(common_params & params, const cache_size & before = {});

// Throws std::invalid_argument if the allocated cache takes more than --kv-memory.
void check_allocated(llama_context * ctx);

} // namespace lookm::server
