#pragma once

#include "lookm/model/model.h"
#include "lookm/prompt/chat_template.h"
#include "lookm/prompt/dry_encoder.h"
#include "lookm/prompt/image_facts.h"
#include "lookm/prompt/prompt.h"

#include <memory>

namespace lookm {

// A model, its projector and its chat template, from the headers of their files: no weights are
// loaded, and contexts allocate nothing.
struct dry_model {
    // Throws as opened_model does, and bad_argument where there is no projector.
    explicit dry_model(const model_options & options);

    // With the cells of images that are read (pruning_of).
    prompt tokenize(const std::string & text, std::span<const image_source> images,
                    const compression & how) const;

    model_options options; // as of a session that is opened with them, but for no_alloc
    device_list devices;   // before weights, which lie on them
    llama_model_ptr weights;
    prompt_markers markers;
    std::unique_ptr<dry_encoder> encoder;
    projector_facts projector;
    std::unique_ptr<chat_template> templates;
};

} // namespace lookm
