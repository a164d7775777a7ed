#pragma once

#include "lookm/core/modality.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace lookm {

// What happened to the last prompt: counts in cells, sizes in bytes, times in seconds.
struct session_stats {
    int32_t prompt_cells = 0, text_cells = 0, image_cells = 0, context_cells = 0;
    int32_t encoded_cells = 0;      // of images; pruning leaves image_cells of them
    int32_t reused_cells = 0;       // not read again, as an earlier prompt began with them
    int32_t reused_image_cells = 0; // of images that were not encoded again, whether read or not
    int32_t squeezed_cells = 0;     // given up while the prompt was read
    int32_t kept_cells = 0;
    cell_counts kept_of; // of kept_cells
    // of kv_ratio "auto"; and the share of attention that the kept cells hold, where it is known
    // (auto_ratio.h)
    std::optional<double> chosen_ratio, attention_held;
    std::string method, note;
    size_t bytes_used_before = 0, bytes_used_after = 0;
    size_t bytes_allocated_before = 0, bytes_allocated_after = 0;
    size_t compress_bytes_peak = 0;
    double encode_seconds = 0, prune_seconds = 0, prefill_seconds = 0, score_seconds = 0,
           compress_seconds = 0, move_seconds = 0, decode_seconds = 0;
    int32_t encode_images = 0, decode_tokens = 0;
};

} // namespace lookm
