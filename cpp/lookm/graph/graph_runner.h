#pragma once

#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml-cpp.h"
#include "ggml.h"

#include <cstddef>

namespace lookm {

// Builds and runs small ggml graphs on one backend, reusing its compute buffer from graph to graph.
//
//   ggml_context * ctx = runner.begin(n_nodes);    // forget the last graph
//   ... tensors in ctx; ggml_build_forward_expand(runner.graph(), out); ggml_set_input / ggml_set_output ...
//   runner.alloc();                                // then ggml_backend_tensor_set() the inputs
//   runner.compute();                              // then ggml_backend_tensor_get() the outputs
//
// alloc() and compute() throw std::runtime_error naming the op or the size that the backend refuses.
class graph_runner {
  public:
    explicit graph_runner(ggml_backend_t backend); // not owned

    ggml_backend_t backend() const { return backend_; }
    bool on_host() const; // tensors of this backend are ordinary memory
    bool on_cpu() const;  // and its graphs may call functions of ours (cpu_stages)

    ggml_context * begin(size_t n_nodes);
    ggml_cgraph * graph() const { return graph_; }
    void alloc();
    void compute();

    bool supports(const ggml_tensor * node) const { return ggml_backend_supports_op(backend_, node); }
    void count(size_t bytes);                         // memory that the last graph used beside its compute buffer
    size_t peak_bytes() const { return peak_bytes_; } // most memory that a graph has used so far

  private:
    ggml_backend_t backend_;
    ggml_gallocr_ptr galloc_;
    ggml_context_ptr ctx_;
    ggml_cgraph * graph_ = nullptr;
    size_t peak_bytes_ = 0;
};

// A leaf of ctx that stands for t's data. A view would pull everything t was computed from into the graph.
ggml_tensor * as_leaf(ggml_context * ctx, const ggml_tensor * t);

// Bound of one tile's intermediate tensors: small enough for a CPU's cache, large enough to keep a device busy.
size_t tile_bytes(const graph_runner & runner);

} // namespace lookm
