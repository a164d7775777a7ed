#pragma once

#include "lookm/model/model.h"
#include "lookm/prompt/prompt.h"

#include "llama.h"

#include <cstddef>
#include <memory>
#include <string>

namespace lookm {

// Memory that the image encoder needs for one prompt, in bytes.
struct encoder_bytes {
    size_t weights = 0;
    size_t compute = 0; // for the largest piece of an image; llama.cpp keeps it allocated
    // pixels of all pieces of all images, which mtmd keeps until the prompt has been read
    size_t prepared = 0;
};

// An image encoder without weights. It cuts images into pieces and counts their cells like the real
// one, and measures the memory that encoding would reserve. That memory is reserved for a moment,
// but on a CPU no page of it is touched.
class dry_encoder {
  public:
    // model may be without weights as well. Throws what load_mmproj() throws.
    dry_encoder(const llama_model * model, const model_options & options,
                const std::string & marker);
    ~dry_encoder();

    const mtmd_context * get() const { return mmproj_.get(); }

    // Lets mtmd build and reserve the graph of every image in p, and stops each at the first node.
    encoder_bytes measure(const prompt & p);

  private:
    struct sight; // what the callback has seen of a graph that mtmd is about to compute

    std::unique_ptr<sight> sight_; // must outlive mmproj_, whose callback uses it
    mtmd::context_ptr mmproj_;
    size_t weights_ = 0;
};

} // namespace lookm
