#include "lookm/server/settings.h"

#include "lookm/core/bad_argument.h"
#include "lookm/core/pruning.h"

#include <algorithm>
#include <sstream>
#include <stdexcept>

namespace lookm::server {

asked_ratio settings::default_ratio() const {
    const ratios r = shares();
    return {r.important + r.recent, is_auto(how.kv_ratio)};
}

asked_ratio settings::auto_ratio() const {
    const asked_ratio ratio = {std::min(how.ratio_ceiling, kv_ratio_max), true};
    static_cast<void>(options(ratio)); // throws
    return ratio;
}

bool settings::active() const {
    return resolved().evicts && (default_ratio().compresses() || capped() || on_request);
}

void settings::check() const {
    resolved();
    const asked_ratio ratio = default_ratio();
    if (on_request && (ratio.compresses() || capped())) {
        throw bad_argument("kv_on_request",
                           "it is given together with a ratio below 1 or a cap, which compress "
                           "every prompt; expected one or the other");
    }
    if (!(kv_ratio_max > 0.0 && kv_ratio_max <= 1.0) ||
        (active() && !on_request && kv_ratio_max < ratio.most &&
         !same_ratio({kv_ratio_max, ratio.automatic}, ratio))) {
        std::ostringstream text;
        text << kv_ratio_max << " is out of range; expected " << ratio.most
             << (ratio.automatic ? " (--kv-ratio-ceiling) to 1" : " (--kv-ratio) to 1");
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
    const pruning asked = pruning_of(how);
    if (!(image_ratio_max > 0.0 && image_ratio_max <= 1.0) ||
        (image_ratio_max < 1.0 && (!asked.on() || asked.image_ratio > image_ratio_max))) {
        throw bad_argument("image_ratio_max", number(image_ratio_max) +
                                                  " is out of range; expected --image-ratio to 1");
    }
    if (min_cells < 0) {
        throw bad_argument("kv_min_cells",
                           std::to_string(min_cells) + " is out of range; expected 0 or more");
    }
}

compress_options settings::options(const asked_ratio & ratio) const {
    compress_options options;
    options.method = resolved();
    if (ratio.automatic) {
        compression asked = how;
        asked.kv_ratio = "auto";
        asked.important_ratio = asked.recent_ratio = std::nullopt;
        asked.ratio_ceiling = ratio.most;
        asked.ratio_floor = std::min(how.ratio_floor, ratio.most);
        options.ratios = split(asked);
        options.automatic = automatic(asked);
        return options;
    }
    options.ratios = shares();
    if (same_ratio(ratio, default_ratio())) {
        return options;
    }
    if (!how.important_ratio && !how.recent_ratio) { // equal to Llava's, bit for bit
        compression asked = how;
        asked.kv_ratio = ratio.most;
        options.ratios = split(asked);
        return options;
    }
    const double scale = ratio.most / (options.ratios.important + options.ratios.recent);
    options.ratios = {options.ratios.important * scale, options.ratios.recent * scale};
    return options;
}

settings & server_settings() {
    static settings one;
    return one;
}

} // namespace lookm::server
