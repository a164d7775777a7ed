#include "lookm/server/settings.h"

#include <sstream>
#include <stdexcept>

namespace lookm::server {

double settings::default_ratio() const {
    const ratios r = shares();
    return r.important + r.recent;
}

ratios settings::shares() const {
    return split_ratio(kv_ratio, important_ratio, recent_ratio, resolved().recent_share);
}

bool settings::active() const {
    return resolved().evicts && (default_ratio() < 1.0 || capped() || on_request);
}

struct method settings::resolved() const {
    method_options options;
    options.text_overflow = text_overflow;
    return resolve(method, options);
}

void settings::check() const {
    resolved();
    const double ratio = default_ratio();
    if (on_request && (ratio < 1.0 || capped())) {
        throw std::invalid_argument("kv_on_request: it is given beside a share below 1 or a cap, which compress every "
                                    "prompt; expected one or the other");
    }
    if (!(kv_ratio_max > 0.0 && kv_ratio_max <= 1.0) ||
        (active() && !on_request && kv_ratio_max < ratio && !same_ratio(kv_ratio_max, ratio))) {
        std::ostringstream text;
        text << "kv_ratio_max: " << kv_ratio_max << " is out of range; expected " << ratio << " (kv_ratio) to 1";
        throw std::invalid_argument(text.str());
    }
    if (kv_cells < 0 || kv_memory < 0 || (kv_cells > 0 && kv_memory > 0)) {
        throw std::invalid_argument("kv_cells: " + std::to_string(kv_cells) + " and kv_memory: " +
                                    std::to_string(kv_memory) + " bytes; expected one of them, 1 or more");
    }
    if (capped() && (!resolved().evicts || needs_squares(resolved()))) {
        throw std::invalid_argument(
            "kv_cells: method " + method +
            (resolved().evicts ? " needs the attention of all queries to all cells" : " evicts nothing") +
            "; expected another one");
    }
    if (image_max_pixels && *image_max_pixels < 1) {
        throw std::invalid_argument("image_max_pixels: " + std::to_string(*image_max_pixels) +
                                    " is out of range; expected 1 or more");
    }
    if (min_cells < 0) {
        throw std::invalid_argument("kv_min_cells: " + std::to_string(min_cells) +
                                    " is out of range; expected 0 or more");
    }
}

compress_options settings::options(double ratio) const {
    compress_options options;
    options.method = resolved();
    options.ratios = shares();
    if (same_ratio(ratio, default_ratio())) {
        return options;
    }
    if (!important_ratio && !recent_ratio) { // to the last bit as Llava has it
        options.ratios = split_ratio(ratio, {}, {}, options.method.recent_share);
        return options;
    }
    const double scale = ratio / (options.ratios.important + options.ratios.recent);
    options.ratios = {options.ratios.important * scale, options.ratios.recent * scale};
    return options;
}

settings & current() {
    static settings one;
    return one;
}

} // namespace lookm::server
