#pragma once

#include "lookm/graph/graph_runner.h"

namespace lookm {

// Copies of a device's tensors in ordinary memory, so that the CPU can compute ops that the device
// does not support.
//
//   host_copies copies(cpu);
//   ggml_tensor * k = copies.add(device_k);    // for every tensor
//   copies.fetch();                            // allocates all copies and fills them
class host_copies {
  public:
    explicit host_copies(ggml_backend_t cpu); // not owned

    // A tensor of the same type, shape and strides, without data until fetch(); nullptr for
    // nullptr. At most 8 tensors.
    ggml_tensor * add(const ggml_tensor * t);
    void fetch();
    void put_back(const ggml_tensor * copy); // writes the whole copy back to the device
    size_t bytes() const { return ggml_backend_buffer_get_size(buffer_.get()); }

  private:
    ggml_backend_t cpu_;
    ggml_context_ptr ctx_, leaves_;
    ggml_backend_buffer_ptr buffer_;
    // copy -> a leaf with the source's data: the offset of a view may not be that of its data
    std::map<const ggml_tensor *, ggml_tensor *> source_;
};

} // namespace lookm
