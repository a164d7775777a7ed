#include "lookm/session/cap_size.h"

#include "lookm/cache/kv_cache.h"
#include "lookm/core/bad_argument.h"

#include <algorithm>

namespace lookm {

namespace {

// Cells of sliding windows: as many however few cells the other layers have
int32_t cells_of_window(const model_options & options, const llama_context * ctx) {
    const int32_t n_swa = llama_model_n_swa(llama_get_model(ctx));
    return n_swa > 0 ? padded_cells(n_swa + std::min(options.n_batch, options.n_ubatch)) : 0;
}

// Bytes of a cache: those of each cell, and those that the number of cells does not change.
struct cache_bytes {
    int64_t fixed, per_cell;

    cache_bytes(llama_context * smallest, int32_t n_window)
        : per_cell(static_cast<int64_t>(kv_cache::bytes_per_token(smallest))) {
        const auto all = static_cast<int64_t>(kv_cache::bytes_allocated(smallest));
        const int64_t others = all - per_cell * cells_step;
        fixed = n_window > 0 ? others / cells_step * n_window : others;
    }
    int64_t of(int64_t n_cells) const { return fixed + per_cell * n_cells; }
    int64_t cells_in(int64_t bytes) const { return (bytes - fixed) / per_cell; }
};

} // namespace

int32_t padded_cells(int64_t n_cells) {
    const int64_t n = (n_cells + cells_step - 1) / cells_step * cells_step;
    return static_cast<int32_t>(std::min<int64_t>(n, INT32_MAX / cells_step * cells_step));
}

int32_t cells_of_cap(const model_options & options, llama_context * smallest,
                     const std::string & unsupported, int32_t n_ctx) {
    const bool by_bytes = options.kv_memory != 0;
    if (options.kv_cells == 0 && !by_bytes) {
        return 0;
    }
    const char * const name = by_bytes ? "kv_memory" : "kv_cells";
    const std::string value = std::to_string(by_bytes ? options.kv_memory : options.kv_cells);
    if (by_bytes && options.kv_cells != 0) {
        throw bad_argument(name, value + " is given with kv_cells, expected one of them");
    }
    if (!unsupported.empty()) {
        throw bad_argument(name, value + " asks for compression, but " + unsupported);
    }
    if (kv_cache::size_changes_rope(smallest)) {
        throw bad_argument(
            name, value + " asks for a context smaller than its prompts, but the size of this "
                          "model's context decides how positions are rotated");
    }
    const int32_t n_window = cells_of_window(options, smallest);
    const int32_t n_fewest = std::max(n_window, by_bytes ? cells_step : 1);
    if (!by_bytes) {
        if (options.kv_cells < n_fewest) {
            throw bad_argument(name,
                               value + ", expected " + std::to_string(n_fewest) + " or more" +
                                   (n_window > 0 ? ", as many as this model's windows need" : ""));
        }
        return std::min(options.kv_cells, n_ctx);
    }
    const cache_bytes bytes(smallest, n_window);
    if (options.kv_memory < bytes.of(n_fewest)) {
        throw bad_argument(name, value + " bytes, expected " + std::to_string(bytes.of(n_fewest)) +
                                     " or more, which this model's first " +
                                     std::to_string(n_fewest) + " cells take");
    }
    const int64_t n = std::min<int64_t>(bytes.cells_in(options.kv_memory), n_ctx);
    return static_cast<int32_t>(n / cells_step * cells_step);
}

} // namespace lookm
