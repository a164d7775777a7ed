#pragma once

#include "lookm/core/method.h"

#include <cstdint>
#include <optional>
#include <span>

namespace lookm {

// Length of the query window where neither the method nor the prompt determines it.
constexpr int32_t default_window = 32;

// Number of queries in the query window: method.window if set; otherwise the length of the text
// after the last image; otherwise (no image, or no text after it) default_window.
int32_t window_of(const method & m, std::span<const token_kind> kind);

// Whether a prompt ends with an image, which means that the question about it is still to come.
inline bool ends_with_image(std::span<const token_kind> kind) {
    return !kind.empty() && kind.back() == token_kind::image;
}

// Fractions of the prompt's cells to keep. Their sum is the fraction that is kept in all.
struct ratios {
    double important = 0.1;
    double recent = 0.1;
};

// One fraction as two, of which recent_share (method.recent_share) is the recent ratio's.
inline ratios divided(double ratio, double recent_share) {
    return {ratio * (1.0 - recent_share), ratio * recent_share};
}

// Number of cells to keep of one prompt, the same for every layer and KV head.
struct budget {
    int32_t n_kv;         // cells before the compression
    int32_t n_important;  // cells kept by rank, from those before the recent window
    int32_t n_recent;     // the last cells, always kept (the recent window)
    int32_t n_visual = 0; // minimum number of image cells among the important ones

    int32_t n_keep() const { return n_important + n_recent; }
    bool evicts() const { return n_keep() < n_kv; }
};

// The budget of a method for cells of these kinds. With n cells in the prompt, N = n_important,
// M = n_recent and Q = n_visual, in this order (a prime marks the new value):
//
//   N = floor(important * n),  M = floor(recent * n)
//   sinks_only (StreamingLLM)    M' = 1,  N' = N + M - 1
//   recent_window (SnapKV)       M' = min(w, N + M),  N' = N + M - M',  w = window_of()
//   keeps_question (LOOK-M+)     M' = max(M, min(floor((N + M) / 2), q)),  N' = N + M - M',
//                                q = cells after the last image, or all cells without an image
//   Q = min(floor(visual_quota * N), image cells before the recent window)
//   prior::text with text_overflow::keep    N' = max(N, T + Q),  T = text cells before the recent
//                                window: all text stays, so more cells may stay than the ratio says
//
// Example (LOOK-M's default ratios): n = 1376, ratios 0.1 and 0.1, 663 text cells before the recent
// window:
//   N = M = 137; text_overflow keep: n_keep = 663 + 137 = 800;  evict: n_keep = 274
//
// n is max(n_prompt, n_kv): pass n_prompt when the cells are what remains of a longer prompt, as
// ratios are fractions of the whole prompt.
//
// Nothing is evicted (n_keep = n_kv) if the method does not evict or if N + M >= n_kv. At least one
// cell is always kept.
budget make_budget(const method & m, const ratios & r, std::span<const token_kind> kind,
                   int32_t n_prompt = 0);

} // namespace lookm
