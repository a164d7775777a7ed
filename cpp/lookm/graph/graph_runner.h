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

// Default limit of the memory in bytes that scoring or compression use at a time, not counting the
// accumulators of scores.
constexpr size_t default_compute_bytes = size_t(64) << 20;

// Returns whether a node can run.
using op_gate = std::function<bool(const ggml_tensor * node)>;

// A graph contains a node that its backend does not support. Nothing of the graph was computed.
struct refused_op : std::runtime_error {
    refused_op(ggml_backend_t backend, const ggml_tensor * node);
    std::string op; // the op with its types: "GET_ROWS(f16, i32) -> f32"
};

// Builds and runs small ggml graphs on one backend, reusing its compute buffer from graph to graph.
//
//   ggml_context * ctx = runner.begin(n_nodes);    // discards the last graph
//   ... make tensors in ctx; ggml_set_input() / ggml_set_output(); ...
//   ggml_build_forward_expand(runner.graph(), out);
//   runner.alloc();      // then ggml_backend_tensor_set() the inputs
//   runner.compute();    // then ggml_backend_tensor_get() the outputs
//
// alloc() throws refused_op if the backend does not support an op, and std::runtime_error if memory
// runs out; compute() throws std::runtime_error if the graph fails.
class graph_runner {
  public:
    // backend: not owned. compute_bytes: the limit that graphs are tiled for. gate: for tests, an
    // op runs only if the gate allows it as well
    explicit graph_runner(ggml_backend_t backend, size_t compute_bytes = default_compute_bytes,
                          op_gate gate = {});

    ggml_backend_t backend() const { return backend_; }
    bool on_host() const; // tensors of this backend are in ordinary memory
    bool on_cpu() const;  // ... and its graphs can call functions of this library (cpu_stages)

    ggml_context * begin(size_t n_nodes);
    ggml_cgraph * graph() const { return graph_; }
    void alloc();
    void compute();

    bool supports(const ggml_tensor * node) const;
    size_t compute_bytes() const { return compute_bytes_; }
    // Reports bytes that the last graph used in addition to its compute buffer
    void count(size_t bytes);
    // The most memory in bytes that a graph has used so far
    size_t peak_bytes() const { return peak_bytes_; }

  private:
    ggml_backend_t backend_;
    size_t compute_bytes_;
    op_gate gate_;
    ggml_gallocr_ptr galloc_;
    ggml_context_ptr ctx_;
    ggml_cgraph * graph_ = nullptr;
    size_t peak_bytes_ = 0;
};

// One runner for each backend, made when it is first asked for.
class graph_runners {
  public:
    // compute_bytes: the limit of each runner
    explicit graph_runners(size_t compute_bytes) : compute_bytes_(compute_bytes) {}

    graph_runner & of(ggml_backend_t backend);
    size_t peak_bytes() const; // the sum over all runners
    void clear() { runners_.clear(); }

    // For tests: discards all runners; the next ones have this gate.
    void restrict_to(op_gate gate);

  private:
    size_t compute_bytes_;
    std::map<ggml_backend_t, std::unique_ptr<graph_runner>> runners_;
    op_gate gate_;
};

// Whether ggml says that the device supports the node; for devices of an RPC server, where ggml
// always says yes, false for the one op in use that not every device has.
bool backend_supports(ggml_backend_dev_t device, const ggml_tensor * node);

// A leaf in ctx with the data of t. A view would pull everything that t was computed from into the
// graph.
ggml_tensor * as_leaf(ggml_context * ctx, const ggml_tensor * t);

// The view itself, or a copy if its data does not start at a multiple of the backend's alignment. A
// part of a cache can start anywhere, but ggml-vulkan aborts if the operands of some ops are not
// aligned.
ggml_tensor * aligned(const graph_runner & runner, ggml_context * ctx, ggml_tensor * view);

// Limit in bytes for the intermediate tensors of one tile: half of the runner's compute_bytes,
// which keeps a device busy; on a CPU at most 2 MiB, which fits into its cache.
size_t tile_bytes(const graph_runner & runner);

} // namespace lookm
