#pragma once

#include "lookm/core/budget.h"
#include "lookm/core/method.h"

#include <cstdint>
#include <optional>
#include <string>

namespace lookm {

// How a prompt is compressed, as a user says it. kv_ratio 1 or method origin: not at all. Unset:
// the method's own.
struct compression {
    double kv_ratio = 1.0;             // share of the prompt's cells to keep
    std::string method = "lookm_plus"; // our own; the paper's are there by name
    std::optional<double> important_ratio =
        {}; // share kept for its score; with recent_ratio it replaces kv_ratio
    std::optional<double> recent_ratio = {}; // share kept because it comes last
    std::optional<std::string> text_overflow = {};
    std::string fidelity = "paper";
    std::optional<std::string> scorer = {};
    std::optional<int32_t> window = {}; // queries of the window scorer
    bool merge_keys = true;             // false: K rows stay as they are, only V is merged
    bool merge_within_modality = false;
    std::optional<double> visual_quota =
        {};            // least share of the important budget that image cells get
    uint32_t seed = 0; // of the method random
};

// visit(name, member) for each field.
template <class Visit>
void for_each_field(const compression * /*of*/, Visit && visit) {
    visit("kv_ratio", &compression::kv_ratio);
    visit("method", &compression::method);
    visit("important_ratio", &compression::important_ratio);
    visit("recent_ratio", &compression::recent_ratio);
    visit("text_overflow", &compression::text_overflow);
    visit("fidelity", &compression::fidelity);
    visit("scorer", &compression::scorer);
    visit("window", &compression::window);
    visit("merge_keys", &compression::merge_keys);
    visit("merge_within_modality", &compression::merge_within_modality);
    visit("visual_quota", &compression::visual_quota);
    visit("seed", &compression::seed);
}

// The method with these options. Throws bad_argument for an unknown name; fidelity upstream with
// text_overflow evict, as text is a floor upstream; a scorer that the method cannot have; a window
// below 1; a visual_quota outside [0, 1].
method resolve(const compression & c);

// kv_ratio split by the method's recent_share, evenly for LOOK-M's, unless one or both shares are
// given: a single one leaves the rest of kv_ratio to the other. Throws bad_argument unless kv_ratio
// is in (0, 1], both shares are >= 0, and they sum to (0, 1].
ratios split(const compression & c);

} // namespace lookm
