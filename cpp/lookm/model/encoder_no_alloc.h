#pragma once

namespace lookm {

// While set, the image encoders that this thread makes get no weights: their memory is reserved as
// llama.cpp does it for its own estimates, and nothing is read. See third_party/clip_init.h.
inline thread_local bool encoder_no_alloc = false;

class encoder_no_alloc_scope {
  public:
    explicit encoder_no_alloc_scope(bool on) { encoder_no_alloc = on; }
    ~encoder_no_alloc_scope() { encoder_no_alloc = false; }
    encoder_no_alloc_scope(const encoder_no_alloc_scope &) = delete;
    encoder_no_alloc_scope & operator=(const encoder_no_alloc_scope &) = delete;
};

} // namespace lookm
