#pragma once

#include "lookm/cache/compressor.h"
#include "lookm/core/compression.h"
#include "lookm/prompt/image_chunks.h"

#include <cmath>
#include <cstdint>
#include <optional>
#include <string>

namespace lookm::server {

// The ratio that a request asks for.
struct asked_ratio {
    double most = 1.0;      // fraction of the prompt's cells to keep, at most
    bool automatic = false; // find a smaller one from the prompt's scores (auto_ratio.h)

    bool compresses() const { return automatic || most < 1.0; }
};

// Whether two ratios are the same to nine decimals, which is what pack_ratio keeps.
inline bool same_ratio(const asked_ratio & a, const asked_ratio & b) {
    return a.automatic == b.automatic && std::abs(a.most - b.most) < 1e-9;
}

// What is done before the model is loaded.
struct start_checks {
    bool files = true;  // open files that were not seen before in a child process first
    bool memory = true; // compare what the start takes with the available memory
};

// What flags and environment say (flags.cpp). Fixed before the server starts.
struct settings {
    compression how;           // of requests that set no ratio of their own
    double kv_ratio_max = 1.0; // largest ratio that a request may ask for
    int32_t min_cells = 0;     // shorter prompts are not compressed
    bool on_request = false;   // a request may ask for compression although the ratio here is 1
    bool strict_reuse = false; // no prompt continues from a compressed one
    int32_t kv_cells = 0;      // largest number of cells of the cache; 0: as -c says
    int64_t kv_memory = 0;     // the same in bytes
    bool no_request_grammar = false; // refuse requests with a grammar, a schema or tools
    start_checks checks;
    std::optional<int32_t> image_max_pixels;  // default: default_max_pixels if active()
    int64_t image_cache = int64_t(256) << 20; // bytes of prepared_images
    double image_ratio_max = 1.0;             // largest image_ratio that a request may ask for
    std::string prefix_type;                  // of full_prefixes; "": that of the cache

    // false: every prompt keeps all of its cells, and the server behaves as llama-server
    bool active() const;
    // Largest number of pixels of an image; 0: any.
    int64_t max_pixels() const {
        return image_max_pixels.value_or(active() ? default_max_pixels : 0);
    }
    bool capped() const { return kv_cells > 0 || kv_memory > 0; }
    // The ratio of requests that set none: important_ratio + recent_ratio if they are set,
    // otherwise kv_ratio.
    asked_ratio default_ratio() const;
    // The ratio of requests that ask for "auto". Throws bad_argument for a method without scores.
    asked_ratio auto_ratio() const;
    // Throws bad_argument for values that contradict each other.
    void check() const;
    method resolved() const { return resolve(how); }
    ratios shares() const { return split(how); } // of a request that sets no ratio
    // Of a request: its ratio is split in the same proportion as the server's.
    compress_options options(const asked_ratio & ratio) const;
};

// Those of this process, which is one server.
settings & server_settings();

} // namespace lookm::server
