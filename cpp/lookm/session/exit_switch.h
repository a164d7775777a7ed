#pragma once

#include "lookm/host/at_work.h"

#include "llama.h"

namespace lookm {

// While it lives, a graph of the context ends before its next node once work is to stop.
class exit_switch {
  public:
    explicit exit_switch(llama_context * ctx) : ctx_(ctx) {
        llama_set_abort_callback(ctx, [](void *) { return work_is_stopped(); }, nullptr);
    }
    ~exit_switch() { llama_set_abort_callback(ctx_, nullptr, nullptr); }
    exit_switch(const exit_switch &) = delete;
    exit_switch & operator=(const exit_switch &) = delete;

  private:
    llama_context * ctx_;
};

} // namespace lookm
