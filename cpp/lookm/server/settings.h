#pragma once

#include "lookm/cache/compressor.h"
#include "lookm/core/compression.h"
#include "lookm/prompt/image_chunks.h"

#include <cmath>
#include <cstdint>
#include <optional>
#include <string>

namespace lookm::server {

// How prompts are compressed, as said by flags and environment (flags.cpp); fixed before the server
// starts.
struct settings {
    compression how;           // of requests that ask for no ratio of their own
    double kv_ratio_max = 1.0; // the most a request may ask for
    int32_t min_cells = 0;     // shorter prompts are left alone
    bool on_request = false;   // at a share of 1, too, a request may ask for less
    bool strict_reuse = false; // a compressed prompt is never the prefix of another
    int32_t kv_cells = 0;      // most cells of the cache, shared out to the slots; 0: as -c says
    int64_t kv_memory = 0;     // the same in bytes
    bool no_request_grammar = false; // requests may bring no grammar, schema or tool
    bool check_files = true;         // files not seen before are opened in a child process first
    bool check_memory = true;        // what does not fit into memory is refused before it is loaded
    std::optional<int32_t>
        image_max_pixels; // of an image; a limit of our own only while active() unless given

    // false: every prompt keeps its full cache, and the server is llama-server
    bool active() const;
    int64_t max_pixels() const {
        return image_max_pixels.value_or(active() ? default_max_pixels : 0);
    } // 0: any
    bool capped() const { return kv_cells > 0 || kv_memory > 0; }
    // the share that requests get which ask for none: the two shares, where both are given, say
    // more than kv_ratio
    double default_ratio() const;
    // Throws bad_argument for values that do not fit each other.
    void check() const;
    method resolved() const { return resolve(how); }
    ratios shares() const { return split(how); } // of a request that asks for none
    // One request's: its ratio is split as the server's is.
    compress_options options(double ratio) const;
};

// Ratios travel with nine decimals (pack_ratio).
inline bool same_ratio(double a, double b) {
    return std::abs(a - b) < 1e-9;
}

// The process's own: llama-server is one per process, too.
settings & current();

} // namespace lookm::server
