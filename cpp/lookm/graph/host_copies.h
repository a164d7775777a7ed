#pragma once

#include "lookm/graph/graph_runner.h"

namespace lookm {

// Tensors of a device in ordinary memory, where the CPU computes what the device refuses.
//
//   host_copies copies(cpu);
//   ggml_tensor * k = copies.add(device_k);    // for every tensor
//   copies.fetch();                            // now k->data holds what device_k held
class host_copies {
  public:
    explicit host_copies(ggml_backend_t cpu); // not owned

    // Same type, shape and strides; at most 8. nullptr for nullptr.
    ggml_tensor * add(const ggml_tensor * t);
    void fetch();
    void put_back(const ggml_tensor * copy); // all of it, to where it came from
    size_t bytes() const { return ggml_backend_buffer_get_size(buffer_.get()); }

  private:
    ggml_backend_t cpu_;
    ggml_context_ptr ctx_, leaves_;
    ggml_backend_buffer_ptr buffer_;
    std::map<const ggml_tensor *, ggml_tensor *>
        source_; // leaves, as a view's own offset may not be its data's
};

} // namespace lookm
