#pragma once

#include "lookm/cache/kv_cache.h"
#include "lookm/core/compression.h"
#include "lookm/plan/dry_model.h"
#include "lookm/plan/memory_plan.h"
#include "lookm/plan/prompt_pattern.h"
#include "lookm/session/sized_context.h"

#include <cstdint>
#include <memory>
#include <string>

namespace lookm {

struct plan_request {
    int32_t n_images = 1;
    compression how;
    int32_t n_answer = 0; // cells
    uint64_t memory = 0;  // bytes; 0: all that the devices say they have
};

// Says what memory a session will take for a prompt about images, from the headers of its files:
// llama.cpp and mtmd are asked for the sizes of what they would allocate, and no weights are
// loaded. Contexts are sized as a session's are, by the same code.
//
// What is not counted: the program itself, its libraries and interpreter, and llama.cpp's small
// tables.
class planner {
  public:
    // Throws as session does, also for a cap that a session refuses.
    explicit planner(const model_options & options);

    const prompt_markers & markers() const { return dry_.markers; }
    std::string apply_template(const std::string & messages) const {
        return dry_.templates->apply(messages);
    }

    // one, two: the same prompt with one image marker and with two. All images have the same size,
    // in pixels. Throws std::invalid_argument for a bad option.
    memory_plan plan(const std::string & one, const std::string & two, const image_size & image,
                     const plan_request & request);
    const prompt_pattern & pattern() const { return *pattern_; } // of the last plan

  private:
    stage_bytes preparing(int32_t n_images) const;
    context_bytes open(int64_t n_cells);
    int32_t kept_through(int32_t n_images, const plan_request & request,
                         const compress_options & options);
    memory_plan plan_for(int32_t n_images, const plan_request & request,
                         const compress_options & options);
    int32_t most_images(const plan_request & request, const compress_options & options);

    dry_model dry_;
    std::unique_ptr<sized_context> context_;
    int32_t n_ctx_;          // most cells of a prompt and its answer
    int32_t cap_;            // most cells in the cache, 0: any number
    context_bytes smallest_; // of the context that there is until a prompt is read
    encoder_bytes encoding_; // of one image
    size_t n_pixels_ = 0;    // of one image
    std::unique_ptr<prompt_pattern> pattern_;
};

} // namespace lookm
