#pragma once

#include "lookm/core/method.h"

#include <cstdint>
#include <optional>
#include <span>

namespace lookm {

constexpr int32_t default_window =
    32; // queries of a window scorer that nothing else tells how many

// Queries of a window scorer: method.window, else the text after the last image; where there is
// none, or no image at all, the last 32.
int32_t window_of(const method & m, std::span<const token_kind> kind);

// Whether a prompt ends with an image: whoever asks about it has not asked yet.
inline bool ends_with_image(std::span<const token_kind> kind) {
    return !kind.empty() && kind.back() == token_kind::image;
}

// What the user asks for. kept share of the prompt = important_ratio + recent_ratio.
struct ratios {
    double important = 0.1;
    double recent = 0.1;
};

// Cells to keep of one prompt; the same for every layer and KV head.
struct budget {
    int32_t n_kv;         // cells of the prompt
    int32_t n_important;  // kept before the recent window
    int32_t n_recent;     // the last cells of the prompt, always kept
    int32_t n_visual = 0; // of the important ones, image cells at least

    int32_t n_keep() const { return n_important + n_recent; }
    bool evicts() const { return n_keep() < n_kv; }
};

// N = floor(important * n), M = floor(recent * n), Q = floor(visual_quota * N) or as many image
// cells as there are before the recent window. With prior::text and text_overflow::keep, N grows to
// T' + Q, T' text cells before the recent window: text is a floor there, and the ratio only what is
// asked for. StreamingLLM has N + M - 1 and 1 in place of N and M; SnapKV N + M - w and w, w
// queries in its window, N + M at most. A method that keeps the question has M = min(floor((N + M)
// / 2), text cells after the last image) where that is more than M, and as much less for N.
//
// Example (LOOK-M's default shares): n = 1376, ratios 0.1 and 0.1, 663 text cells before the
// window:
//   N = M = 137; keep: n_keep = 663 + 137 = 800;  evict: n_keep = 274
//
// n is n_prompt where the cells are what is left of a longer prompt: a ratio is a share of all it
// had.
//
// A method that does not evict, no more cells than N + M, or a floor that leaves nothing to evict,
// gives n_keep = n.
budget make_budget(const method & m, const ratios & r, std::span<const token_kind> kind,
                   int32_t n_prompt = 0);

} // namespace lookm
