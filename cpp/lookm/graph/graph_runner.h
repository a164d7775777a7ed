#pragma once

#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml-cpp.h"
#include "ggml.h"

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>

namespace lookm {

// Memory that scoring or compression may take at once, beside the accumulators of scores.
constexpr size_t default_compute_bytes = size_t(64) << 20;

// Whether a node can run.
using op_gate = std::function<bool(const ggml_tensor * node)>;

// A graph holds a node that its backend refuses: nothing of it was computed.
struct refused_op : std::runtime_error {
    refused_op(ggml_backend_t backend, const ggml_tensor * node);
    std::string op; // and its types: "GET_ROWS(f16, i32) -> f32"
};

// Builds and runs small ggml graphs on one backend, reusing its compute buffer from graph to graph.
//
//   ggml_context * ctx = runner.begin(n_nodes);    // forget the last graph
//   ... tensors in ctx; ggml_build_forward_expand(runner.graph(), out); ggml_set_input /
//   ggml_set_output ... runner.alloc();                                // then
//   ggml_backend_tensor_set() the inputs runner.compute();                              // then
//   ggml_backend_tensor_get() the outputs
//
// alloc() throws refused_op naming an op that the backend refuses; it and compute() throw
// std::runtime_error for what else fails.
class graph_runner {
  public:
    // backend: not owned; gate: refuses what the backend could run
    explicit graph_runner(ggml_backend_t backend, size_t compute_bytes = default_compute_bytes,
                          op_gate gate = {});

    ggml_backend_t backend() const { return backend_; }
    bool on_host() const; // tensors of this backend are ordinary memory
    bool on_cpu() const;  // and its graphs may call functions of ours (cpu_stages)

    ggml_context * begin(size_t n_nodes);
    ggml_cgraph * graph() const { return graph_; }
    void alloc();
    void compute();

    bool supports(const ggml_tensor * node) const;
    size_t compute_bytes() const { return compute_bytes_; } // what graphs are tiled to stay below
    void count(size_t bytes); // memory that the last graph used beside its compute buffer
    size_t peak_bytes() const { return peak_bytes_; } // most memory that a graph has used so far

  private:
    ggml_backend_t backend_;
    size_t compute_bytes_;
    op_gate gate_;
    ggml_gallocr_ptr galloc_;
    ggml_context_ptr ctx_;
    ggml_cgraph * graph_ = nullptr;
    size_t peak_bytes_ = 0;
};

// One runner for each backend that is asked for.
class graph_runners {
  public:
    explicit graph_runners(size_t compute_bytes)
        : compute_bytes_(compute_bytes) {} // of each runner

    graph_runner & of(ggml_backend_t backend);
    size_t peak_bytes() const; // of all together
    void clear() { runners_.clear(); }

    // Runners made from now on have this gate. For tests.
    void restrict_to(op_gate gate);

  private:
    size_t compute_bytes_;
    std::map<ggml_backend_t, std::unique_ptr<graph_runner>> runners_;
    op_gate gate_;
};

// What ggml says about the backend, minus what it says about a device that it cannot ask.
bool backend_supports(ggml_backend_dev_t device, const ggml_tensor * node);

// A leaf of ctx that stands for t's data. A view would pull everything t was computed from into the
// graph.
ggml_tensor * as_leaf(ggml_context * ctx, const ggml_tensor * t);

// view, or a copy of it where its data begins where no kernel of the backend may: a part of a cache
// can lie anywhere, and ggml-vulkan takes operands of some ops from multiples of the device's
// alignment only (it aborts otherwise).
ggml_tensor * aligned(const graph_runner & runner, ggml_context * ctx, ggml_tensor * view);

// Bound of one tile's intermediate tensors, half of what the runner may take: large enough to keep
// a device busy, and on a CPU small enough for its cache.
size_t tile_bytes(const graph_runner & runner);

} // namespace lookm
