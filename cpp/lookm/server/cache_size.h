#pragma once

#include "common.h"

#include <cstdint>

namespace lookm::server {

// The cache that --kv-cells or --kv-memory allows, shared out evenly: so an answer does not depend
// on what other slots hold. What -c names is then how many tokens a slot's prompt and answer may
// have.
struct cache_size {
    int32_t n_tokens = 0; // of a slot, 0: what the model was trained with
    int32_t n_cells = 0;  // of a slot, 0: no cap
};

// Takes params.n_ctx for the tokens of a slot, and makes it the cells of the cache; batches become
// no larger than a quarter of a slot's cells. Throws std::invalid_argument for a cap that is too
// small, and for models that cannot be compressed.
cache_size apply_cap(common_params & params);

// Throws std::invalid_argument where the cache that was made takes more than --kv-memory.
void check_allocated(llama_context * ctx);

} // namespace lookm::server
