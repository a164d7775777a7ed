#pragma once

#include "lookm/cache/kv_cache.h"
#include "lookm/core/compression.h"
#include "lookm/prompt/chat_template.h"
#include "lookm/prompt/dry_encoder.h"
#include "lookm/session/sized_context.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace lookm {

// What a session holds at one time, in bytes, on all devices together.
struct stage_bytes {
    size_t weights = 0;
    size_t encoder_weights = 0, encoder_compute = 0;
    size_t kv = 0;
    size_t compute = 0; // llama.cpp's buffers for a ubatch
    size_t scores = 0;  // one number for each cell, layer and KV head, two for some methods
    size_t moving = 0;  // the kept cells' copy while the smaller context is made
    size_t pictures =
        0; // as the encoder sees them; while they are prepared, the one at hand at full size, too

    size_t total() const {
        return weights + encoder_weights + encoder_compute + kv + compute + scores + moving +
               pictures;
    }
};

// The cells of a prompt about any number of images: prompts about one and about two, each image of
// the same size.
class prompt_pattern {
  public:
    prompt_pattern(const prompt & one, const prompt & two);

    std::vector<token_kind> kinds(int32_t n_images) const; // in token order; n_images >= 1
    // images, or their tiles, and the text between
    std::vector<prompt_part> parts(int32_t n_images) const;
    int64_t n_cells(int32_t n_images) const;
    int32_t most_images(int32_t n_cells) const; // whose prompt has at most so many cells

    int32_t image_cells = 0; // of each image
    int32_t mark_cells = 0;  // text that comes with each image
    int32_t n_tiles = 0;     // pieces of each image that the encoder sees
    bool whole = false;      // each must be read at once

  private:
    struct segment {
        std::vector<token_kind> kinds;
        std::vector<int32_t> parts; // cells of each
    };
    std::vector<const segment *> segments(int32_t n_images) const;

    segment before_, each_, after_; // up to the end of the first image, each further one, the rest
};

struct plan_request {
    int32_t n_images = 1;
    compression how;
    int32_t n_answer = 0;
    uint64_t memory = 0; // 0: all that the devices say they have
};

struct memory_plan {
    int32_t prompt_cells = 0, text_cells = 0, kept_cells = 0;
    int32_t n_ctx = 0; // most cells of a prompt; this one may have more
    size_t kv_full = 0, kv_kept = 0;
    std::optional<size_t> kv_capped; // while a cap is given
    stage_bytes preparing, reading, answering;
    size_t scratch = 0; // scoring and compression take no more than this, beside reading
    uint64_t memory = 0;
    int32_t most_images = 0; // that fit into memory and n_ctx

    size_t peak() const; // the largest stage; scratch apart
    bool fits() const;   // with scratch, where there is any
};

// Says what memory a session will take for a prompt about images, from the headers of its files:
// llama.cpp and mtmd are asked for the sizes of what they would allocate, and no weights are
// loaded. Contexts are sized as a session's are, by the same code.
//
// What is not counted: the program itself, its libraries and interpreter, and llama.cpp's small
// tables.
class planner {
  public:
    // options.no_alloc is taken as true. Throws as session does, for a cap that it would refuse
    // too.
    explicit planner(const model_options & options);

    const prompt_markers & markers() const { return markers_; }
    std::string apply_template(const std::string & messages) const {
        return template_->apply(messages);
    }

    // one, two: prompts with one image marker and with two. Nothing else differs between images of
    // the same size. Throws std::invalid_argument for a bad option.
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

    model_options options_;
    device_list devices_; // before model_: it lies on them
    llama_model_ptr model_;
    prompt_markers markers_;
    std::unique_ptr<dry_encoder> encoder_;
    std::unique_ptr<chat_template> template_;
    std::unique_ptr<sized_context> room_;
    int32_t n_ctx_ = 0;
    int32_t cap_ = 0;        // most cells that the cache has while a prompt is read, 0: any number
    context_bytes smallest_; // the context that there is until a prompt is read
    encoder_bytes encoding_; // one image
    size_t n_pixels_ = 0;    // one image
    std::unique_ptr<prompt_pattern> pattern_;
};

} // namespace lookm
