#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

namespace lookm {

// What a session holds at one time, in bytes, on all devices together.
struct stage_bytes {
    size_t weights = 0;
    size_t encoder_weights = 0, encoder_compute = 0;
    size_t kv = 0;
    size_t compute = 0;  // llama.cpp's buffers for a ubatch
    size_t scores = 0;   // one number for each cell, layer and KV head, two for some methods
    size_t moving = 0;   // a copy of the kept cells, while the smaller context is made
    size_t pictures = 0; // as the encoder gets them, and the one being prepared at full size

    size_t total() const {
        return weights + encoder_weights + encoder_compute + kv + compute + scores + moving +
               pictures;
    }
};

// What a prompt takes, from its first image to its answer.
struct memory_plan {
    int32_t prompt_cells = 0, text_cells = 0, kept_cells = 0;
    int32_t n_ctx = 0; // most cells of a prompt; this prompt may have more
    size_t kv_full = 0, kv_kept = 0;
    std::optional<size_t> kv_capped; // with a cap
    stage_bytes preparing, reading, answering;
    size_t scratch = 0;      // most that scoring and compression take on top of reading
    uint64_t memory = 0;     // there is
    int32_t most_images = 0; // that fit into memory and n_ctx

    size_t peak() const; // the largest stage, without scratch
    bool fits() const;   // with scratch
};

} // namespace lookm
