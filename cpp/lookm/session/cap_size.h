#pragma once

#include "lookm/model/model_options.h"

#include "llama.h"

#include <cstdint>
#include <string>

namespace lookm {

constexpr int32_t cells_step = 256; // contexts have a multiple of it, as llama.cpp's own

int32_t padded_cells(int64_t n_cells); // up to the next step

// The cap of options (kv_cells or kv_memory) in cells, 0 where there is none. smallest: a context
// of cells_step cells, whose buffers tell what a cell takes. unsupported: why the model cannot be
// compressed, "" where it can. n_ctx: the most there can be. Throws bad_argument for a cap that is
// too small, for two caps, and for a model that cannot have one.
int32_t cells_of_cap(const model_options & options, llama_context * smallest,
                     const std::string & unsupported, int32_t n_ctx);

} // namespace lookm
