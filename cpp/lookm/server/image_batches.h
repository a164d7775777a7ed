#pragma once

#include "lookm/server/hook.h"

#include "mtmd-helper.h"

#include <algorithm>
#include <cstdint>
#include <exception>
#include <utility>

namespace lookm::server {

// Tells the hook about each batch of an image that mtmd decodes, before and after it.
class image_batches {
  public:
    // p: the observed prompt that the image belongs to; nullptr if it is not observed. whole: the
    // image must be one batch. callback: llama-server's own, called after each batch.
    image_batches(hook & h, const slot_prompt * p, bool whole, int32_t n_cells, int32_t n_batch,
                  mtmd_helper_post_decode_callback callback, void * user_data)
        : hook_(h), prompt_(p), whole_(whole), n_left_(n_cells), n_batch_(n_batch),
          callback_(callback), user_data_(user_data) {}

    void before() {
        // first, because it may begin the prompt, which decides how large batches may be
        hook_.before_decode(prompt_, 0);
        hook_.make_room(prompt_, n_next());
    }
    int32_t n_at_once() const { return hook_.n_image_batch(n_batch_, whole_); }

    static int32_t after(const mtmd_helper_embd_batch * batch, void * self) {
        auto & b = *static_cast<image_batches *>(self);
        try {
            return b.decoded(batch);
        } catch (...) { // must not pass through the C code that called this
            b.error_ = std::current_exception();
            return 1;
        }
    }
    void rethrow() {
        if (error_) {
            std::rethrow_exception(std::exchange(error_, nullptr));
        }
    }

  private:
    int32_t n_next() const { return whole_ ? n_left_ : std::min(n_left_, n_at_once()); }

    int32_t decoded(const mtmd_helper_embd_batch * batch) {
        hook_.after_batch(prompt_ ? batch->n_tokens : 0);
        n_left_ -= batch->n_tokens;
        if (n_left_ > 0) {
            hook_.make_room(prompt_, n_next());
        }
        return callback_ ? callback_(batch, user_data_) : 0;
    }

    hook & hook_;
    const slot_prompt * prompt_;
    bool whole_;
    int32_t n_left_, n_batch_;
    mtmd_helper_post_decode_callback callback_;
    void * user_data_;
    std::exception_ptr error_;
};

} // namespace lookm::server
