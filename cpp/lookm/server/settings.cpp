#include "lookm/server/settings.h"

#include "lookm/core/bad_argument.h"

#include <sstream>
#include <stdexcept>

namespace lookm::server {

double settings::default_ratio() const {
    const ratios r = shares();
    return r.important + r.recent;
}

bool settings::active() const {
    return resolved().evicts && (default_ratio() < 1.0 || capped() || on_request);
}

void settings::check() const {
    resolved();
    const double ratio = default_ratio();
    if (on_request && (ratio < 1.0 || capped())) {
        throw bad_argument("kv_on_request",
                           "it is given together with a ratio below 1 or a cap, which compress "
                           "every prompt; expected one or the other");
    }
    if (!(kv_ratio_max > 0.0 && kv_ratio_max <= 1.0) ||
        (active() && !on_request && kv_ratio_max < ratio && !same_ratio(kv_ratio_max, ratio))) {
        std::ostringstream text;
        text << kv_ratio_max << " is out of range; expected " << ratio << " (--kv-ratio) to 1";
        throw bad_argument("kv_ratio_max", text.str());
    }
    if (kv_cells < 0 || kv_memory < 0 || (kv_cells > 0 && kv_memory > 0)) {
        throw bad_argument("kv_cells", std::to_string(kv_cells) +
                                           " and --kv-memory: " + std::to_string(kv_memory) +
                                           " bytes; expected one of them, 1 or more");
    }
    if (capped() && (!resolved().evicts || needs_squares(resolved()))) {
        throw bad_argument("kv_cells", "method " + how.method +
                                           (resolved().evicts
                                                ? " needs the attention of all queries to all cells"
                                                : " evicts nothing") +
                                           "; expected another one");
    }
    if (image_max_pixels && *image_max_pixels < 1) {
        throw bad_argument("image_max_pixels", std::to_string(*image_max_pixels) +
                                                   " is out of range; expected 1 or more");
    }
    if (min_cells < 0) {
        throw bad_argument("kv_min_cells",
                           std::to_string(min_cells) + " is out of range; expected 0 or more");
    }
}

compress_options settings::options(double ratio) const {
    compress_options options;
    options.method = resolved();
    options.ratios = shares();
    if (same_ratio(ratio, default_ratio())) {
        return options;
    }
    if (!how.important_ratio && !how.recent_ratio) { // equal to Llava's, bit for bit
        compression asked = how;
        asked.kv_ratio = ratio;
        options.ratios = split(asked);
        return options;
    }
    const double scale = ratio / (options.ratios.important + options.ratios.recent);
    options.ratios = {options.ratios.important * scale, options.ratios.recent * scale};
    return options;
}

settings & server_settings() {
    static settings one;
    return one;
}

} // namespace lookm::server
