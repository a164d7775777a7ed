#pragma once

#include "lookm/model/model.h"
#include "lookm/prompt/prompt.h"

#include "llama.h"

#include <cstddef>
#include <memory>
#include <string>

namespace lookm {

// What the image encoder takes for one prompt, in bytes.
struct encoder_bytes {
    size_t weights = 0;
    size_t compute = 0; // for the largest piece of an image; llama.cpp keeps it
    size_t prepared =
        0; // pixels of all images and pieces, as mtmd keeps them until the prompt is read
};

// An image encoder that has no weights: it cuts and counts images as the real one does, and says
// what memory encoding them would reserve. Of memory that is set aside on the way, no page is
// touched on a CPU; an accelerator lends it for a moment.
class dry_encoder {
  public:
    // model may be without weights, too. Throws as load_mmproj does.
    dry_encoder(const llama_model * model, const model_options & options,
                const std::string & marker);
    ~dry_encoder();

    const mtmd_context * get() const { return mmproj_.get(); }

    // Lets mtmd build and reserve the graph of every image in p, and stops it at the first node.
    encoder_bytes measure(const prompt & p);

  private:
    struct sight; // of a graph that mtmd is about to compute

    std::unique_ptr<sight> sight_; // before mmproj_: its callback's own
    mtmd::context_ptr mmproj_;
    size_t weights_ = 0;
};

} // namespace lookm
