#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace lookm {

// What a cell was made from. The text of a context (a document that may be evicted) counts as
// image.
enum class token_kind : uint8_t { image = 0, text = 1 };

// Which of the two to follow where LOOK-M's paper and its published code (upstream) differ; see
// docs/methods.md.
enum class fidelity { paper, upstream };

// Which queries' attention counts for a cell's score:
//   none        no query's; later cells rank higher
//   cumulative  all queries of the prompt
//   window      the queries from first_query() on (rank.h)
enum class scorer { none, cumulative, window };

// How text and image cells compete:
//   none       by score alone
//   text       all text before any image
//   attention  by score, but images get at least the same share of the important budget as of the
//              attention that counts (rank.h), and text at least text_quota. If the prompt ends
//              with an image, the question about it is still to come, and text comes before images.
enum class prior { none, text, attention };

// How evicted K and V rows x_i are merged into their pivot x_c, the kept row whose key is the most
// similar; w_i is the cosine similarity of the two keys, and n_c rows share the pivot:
//   none      they are dropped
//   average   x_c' = (x_c + sum x_i) / (1 + n_c)
//   pivot     x_c' = ((1 + n_c/2) x_c + 1/2 sum x_i) / (1 + n_c)
//   weighted  x_c' = (x_c + sum w_i x_i) / (1 + n_c)
enum class merge { none, average, pivot, weighted };

// Which evicted rows are merged, where w[h,j] is the similarity of head h's j-th evicted cell:
//   all         every row
//   similar     those j with mean_h w[h,j] >= mean_hj w[h,j], the same j for every head
//   misaligned  as upstream's average merge does, which filters the pivots but not the rows: with k
//               similar ones, the first k rows go into the k pivots of the similar rows
enum class filter { all, similar, misaligned };

// What to do when text alone exceeds the important budget: keep all text, or evict text as well so
// that the budget is met exactly.
enum class text_overflow { keep, evict };

// A compression method: a row of the table in method.cpp (LOOK-M, section 3 and table 1, with
// upstream's names) with the user's options put in by resolve() (compression.h).
struct method {
    const char * name;
    enum scorer scorer;
    enum prior prior;
    enum merge merge;
    int32_t n_sink = 0; // the first cells, always kept, as part of the important budget
    enum filter filter = filter::all;
    int32_t n_pool = 1; // scores are averaged over this many neighbouring cells (odd)
    // If set, scores of text are also summed over the cell and this many before it, and the larger
    // sum counts: attention finds where a fact begins, and the fact is what follows.
    int32_t n_trail = 0;
    // with prior::attention, minimum fraction of the important budget for text
    double text_quota = 0.0;
    bool evicts = true; // false: origin, the full cache
    // the recent window is the query window, regardless of the recent ratio
    bool recent_window = false;
    // cells are ranked by mean attention, after the ones with the largest deviation of it
    bool deviation = false;
    // StreamingLLM: only the sinks and the most recent cells stay
    bool sinks_only = false;
    bool random = false; // important cells are drawn at random
    // Fraction of the images' part of the budget that is spaced evenly over the cells made from
    // images, regardless of scores. It counts as 1 if the prompt ends with an image: the question
    // is still to come, so scores say nothing about it.
    double spread = 0.0;
    double recent_share = 0.5; // the recent ratio's part of kv_ratio, if the user does not set it
    // the recent window grows to the text after the last image, up to half the budget
    bool keeps_question = false;

    // Options of the user, each with the method's own default
    enum text_overflow text_overflow = text_overflow::keep;
    // minimum fraction of the important budget for image cells
    double visual_quota = 0.0;
    std::optional<int32_t> window = {}; // length of the query window; see window_of()

    // Options of the user with one default for all methods
    bool merge_keys = true;             // false: merges V rows only, kept K rows do not change
    bool merge_within_modality = false; // a row without a kept row of its own kind is dropped
    uint32_t seed = 0;                  // of random
};

// All methods as the paper defines them, origin first.
std::span<const method> methods();

} // namespace lookm
