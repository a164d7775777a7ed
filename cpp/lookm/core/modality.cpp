#include "lookm/core/modality.h"

#include <algorithm>
#include <cmath>

namespace lookm {

std::string starved(const cell_counts & prompt, const cell_counts & kept) {
    const auto check = [&](const char * name, int32_t n, int32_t n_kept) -> std::string {
        const double even = static_cast<double>(kept.all()) * n / std::max(prompt.all(), 1);
        if (n_kept >= 0.1 * even) {
            return "";
        }
        return std::string(name) + ": " + std::to_string(n_kept) + " of " + std::to_string(n) +
               " cells kept, less than a tenth of the " + std::to_string(std::lround(even)) +
               " of an even share (kv_ratio, method or visual_quota give them more)";
    };
    for (const std::string & why :
         {check("images", prompt.image, kept.image), check("text", prompt.text, kept.text),
          check("contexts", prompt.context, kept.context)}) {
        if (!why.empty()) {
            return why;
        }
    }
    return "";
}

} // namespace lookm
