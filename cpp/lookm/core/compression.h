#pragma once

#include "lookm/core/auto_ratio.h"
#include "lookm/core/budget.h"
#include "lookm/core/method.h"

#include <cstdint>
#include <optional>
#include <string>
#include <variant>

namespace lookm {

// A fraction of a prompt's cells, or "auto": found for each prompt (auto_ratio.h).
using ratio_or_auto = std::variant<double, std::string>;

// How a prompt is compressed, as the user specifies it. kv_ratio 1 or the method origin compress
// nothing. An option that is not set takes the method's default.
struct compression {
    ratio_or_auto kv_ratio = 1.0;      // fraction of the prompt's cells to keep
    std::string method = "lookm_plus"; // this project's own; methods() lists all
    // fractions kept by rank and because they are the most recent; both together replace kv_ratio
    std::optional<double> important_ratio = {};
    std::optional<double> recent_ratio = {};
    // of kv_ratio "auto": its limits, and the share of attention that kept cells must hold
    double ratio_floor = 0.05;
    double ratio_ceiling = 0.5;
    double quality = 0.9; // docs/methods.md shows what answers that costs
    std::optional<std::string> text_overflow = {};
    std::string fidelity = "paper";
    std::optional<std::string> scorer = {};
    std::optional<int32_t> window = {};    // length of the query window
    std::optional<std::string> merge = {}; // how evicted rows are merged
    bool merge_keys = true;                // false: merges V rows only, kept K rows do not change
    bool merge_within_modality = false;    // merges text into text and images into images only
    // minimum fraction of the important budget that is reserved for image cells
    std::optional<double> visual_quota = {};
    // pruning (pruning.h): the share of an image's cells that is read at all, or their number
    double image_ratio = 1.0;
    std::optional<int32_t> image_cells = {};
    std::string pruner = "divprune";
    uint32_t seed = 0; // of the method random, and of the pruner random
};

// Calls visit(name, pointer to member) for each field.
template <class Visit>
void for_each_field(const compression * /*unused*/, Visit && visit) {
    visit("kv_ratio", &compression::kv_ratio);
    visit("method", &compression::method);
    visit("important_ratio", &compression::important_ratio);
    visit("recent_ratio", &compression::recent_ratio);
    visit("ratio_floor", &compression::ratio_floor);
    visit("ratio_ceiling", &compression::ratio_ceiling);
    visit("quality", &compression::quality);
    visit("text_overflow", &compression::text_overflow);
    visit("fidelity", &compression::fidelity);
    visit("scorer", &compression::scorer);
    visit("window", &compression::window);
    visit("merge", &compression::merge);
    visit("merge_keys", &compression::merge_keys);
    visit("merge_within_modality", &compression::merge_within_modality);
    visit("visual_quota", &compression::visual_quota);
    visit("image_ratio", &compression::image_ratio);
    visit("image_cells", &compression::image_cells);
    visit("pruner", &compression::pruner);
    visit("seed", &compression::seed);
}

// The row of the method table with these options put in. Throws bad_argument for an unknown name,
// fidelity "upstream" with text_overflow "evict" (upstream keeps all text), a scorer that the
// method cannot use, a window below 1, and a visual_quota outside [0, 1].
method resolve(const compression & c);

// Whether kv_ratio is "auto". Throws bad_argument for another text.
bool is_auto(const ratio_or_auto & kv_ratio);

// What kv_ratio "auto" asks for; nullopt for a number. Throws bad_argument unless quality,
// ratio_floor and ratio_ceiling are in (0, 1] and the floor is at most the ceiling; and for "auto"
// together with a part of the ratio, or with a method that observes no attention.
std::optional<auto_ratio> automatic(const compression & c);

// The important and the recent ratio. Both are taken as given if both are set; if one is set, the
// other is the rest of kv_ratio; if neither is set, the method's recent_share divides kv_ratio
// (half and half for LOOK-M's methods). With kv_ratio "auto", they are those of the ceiling. Throws
// bad_argument unless kv_ratio is in (0, 1], each ratio in [0, 1], a single one at most kv_ratio,
// and the sum in (0, 1]; and as automatic() does.
ratios split(const compression & c);

} // namespace lookm
