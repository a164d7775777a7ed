#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace lookm {

enum class token_kind : uint8_t { image = 0, text = 1 };

// How text and image cells compete: by score alone, or every text cell before any image cell.
enum class prior { none, text };

// What becomes of an evicted row x_i (its pivot x_c is the kept row of highest cosine similarity w_i, n_c rows share
// it):
//   none      dropped
//   average   x_c' = (x_c + sum x_i) / (1 + n_c)
//   pivot     x_c' = ((1 + n_c/2) x_c + 1/2 sum x_i) / (1 + n_c)
//   weighted  x_c' = (x_c + sum w_i x_i) / (1 + n_c)
enum class merge { none, average, pivot, weighted };

// When text alone exceeds the important budget: keep all of it, or evict down to the exact budget.
enum class text_overflow { keep, evict };

// A compression method is a row of one table (LOOK-M, section 3 and table 1; names are upstream's).
struct method {
    const char * name;
    bool evicts; // false: origin, the full cache
    enum prior prior;
    enum merge merge;
    int32_t n_sink; // first cells that are always taken, inside the important budget
};

// All methods, origin first.
std::span<const method> methods();

// Throws std::invalid_argument naming the choices when there is none of this name.
const method & find_method(std::string_view name);

// "keep" or "evict"; throws std::invalid_argument.
text_overflow parse_text_overflow(std::string_view name);

} // namespace lookm
