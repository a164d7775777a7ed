#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace lookm {

// What a cell was made from. Text of a context (a document that may be evicted) counts as image.
enum class token_kind : uint8_t { image = 0, text = 1 };

// Where LOOK-M's paper and its published code (upstream) differ, whose meaning holds
// (docs/methods.md).
enum class fidelity { paper, upstream };

// Which queries' attention a cell is judged by:
//   none        nobody's; later cells rank higher
//   cumulative  all queries of the prompt
//   window      those from first_query() on
enum class scorer { none, cumulative, window };

// How text and image cells compete: by score alone, or every text cell before any image cell.
enum class prior { none, text };

// What becomes of an evicted row x_i (its pivot x_c is the kept row of highest cosine similarity
// w_i, n_c rows share it):
//   none      dropped
//   average   x_c' = (x_c + sum x_i) / (1 + n_c)
//   pivot     x_c' = ((1 + n_c/2) x_c + 1/2 sum x_i) / (1 + n_c)
//   weighted  x_c' = (x_c + sum w_i x_i) / (1 + n_c)
enum class merge { none, average, pivot, weighted };

// Which evicted rows a merge takes in:
//   all
//   similar     those of rank j (the j-th evicted cell of each head) with mean_h w[h,j] >= mean_hj
//   w[h,j] misaligned  as many, but the first ones, each into the pivot of a similar one:
//   upstream's average merge, which
//               filters the pivots and not the rows
enum class filter { all, similar, misaligned };

// When text alone exceeds the important budget: keep all of it, or evict down to the exact budget.
enum class text_overflow { keep, evict };

// A compression method: a row of one table (LOOK-M, section 3 and table 1; names are upstream's)
// with the user's options put in. Made by resolve() (compression.h).
struct method {
    const char * name;
    enum scorer scorer;
    enum prior prior;
    enum merge merge;
    int32_t n_sink = 0; // first cells that are always taken, inside the important budget
    enum filter filter = filter::all;
    int32_t n_pool = 1; // scores are averaged over so many neighbours (odd)
    bool evicts = true; // false: origin, the full cache
    bool recent_window =
        false; // the recent window of the budget is the window of queries, whatever the ratios
    bool deviation =
        false; // cells are ranked by mean attention, those of the largest deviation first
    bool sinks_only =
        false;           // nothing but sinks stays for its importance, all else for being recent
    bool random = false; // important cells are drawn
    // Share of the images' part of the budget that lies evenly over them, whatever the scores; all
    // of it where the prompt ends with an image, as its question is yet to come and no score knows
    // it.
    double spread = 0.0;
    double recent_share = 0.5; // of a kv_ratio that the user does not split
    bool keeps_question =
        false; // the recent window grows to the text after the last image, within half the budget

    // the user's, or the row's own where he says nothing
    enum text_overflow text_overflow = text_overflow::keep;
    double visual_quota = 0.0; // least share of the important budget that image cells get
    std::optional<int32_t> window =
        {}; // queries of the window scorer; else the text after the last image

    // the user's
    bool merge_keys = true;             // false: K rows stay as they are, only V is merged
    bool merge_within_modality = false; // text goes into text and image into image, or is dropped
    uint32_t seed = 0;                  // of random
};

// All rows as the paper has them, origin first.
std::span<const method> methods();

} // namespace lookm
