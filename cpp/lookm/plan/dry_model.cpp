#include "lookm/plan/dry_model.h"

#include "lookm/prompt/pruned_images.h"

#include "lookm/core/bad_argument.h"
#include "lookm/host/memory_room.h"
#include "lookm/session/checks.h"

namespace lookm {

dry_model::dry_model(const model_options & given) : options(given), markers(random_markers()) {
    options.no_alloc = true;
    check_room("a plan");
    check_compute_bytes(options.compute_bytes);
    if (options.mmproj_path.empty()) {
        throw bad_argument("mmproj", "\"\" is no file; expected the projector that images need");
    }
    weights = load_model(options, devices);
    encoder = std::make_unique<dry_encoder>(weights.get(), options, markers.image);
    projector = read_projector(options.mmproj_path);
    templates =
        std::make_unique<chat_template>(weights.get(), options.model_path, options.chat_template);
}

prompt dry_model::tokenize(const std::string & text, std::span<const image_source> images,
                           const compression & how) const {
    prompt p = lookm::tokenize(weights.get(), encoder->get(), text, markers, images, {});
    prune(p, pruning_of(how), projector);
    return p;
}

} // namespace lookm
