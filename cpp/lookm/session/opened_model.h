#pragma once

#include "lookm/model/model.h"
#include "lookm/prompt/chat_template.h"
#include "lookm/prompt/image_facts.h"
#include "lookm/prompt/prompt.h"
#include "lookm/session/prompt_request.h"

#include <memory>

namespace lookm {

// What a session reads prompts with: weights, projector and chat template.
struct opened_model {
    // Throws std::invalid_argument for a bad option or file, out_of_memory for what memory does not
    // hold.
    explicit opened_model(const model_options & options);
    // Shares the weights of another one, about which options say nothing then.
    opened_model(const model_options & options, const opened_model & other);

    // Throws std::invalid_argument where markers, images and contexts do not match, or an image
    // cannot be used. begins: no text of a conversation comes before. Its images are pruned as it
    // asks for.
    prompt tokenize(const prompt_request & request, bool begins = true) const;
    const llama_vocab * vocab() const { return llama_model_get_vocab(weights.get()); }

    model_options options; // flash_attn is "off" where "auto" came to that
    std::shared_ptr<llama_model> weights;
    prompt_markers markers;
    mtmd::context_ptr mmproj;  // null: text only
    projector_facts projector; // of mmproj
    chat_template templates;

  private:
    opened_model(const model_options & options, std::shared_ptr<llama_model> weights);
};

} // namespace lookm
