#include "lookm/graph/graph_runner.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>

namespace lookm {

namespace {

std::string describe(const ggml_tensor * node) {
    std::string text = ggml_op_desc(node);
    for (int i = 0; i < GGML_MAX_SRC && node->src[i]; ++i) {
        text += (i == 0 ? "(" : ", ") + std::string(ggml_type_name(node->src[i]->type));
    }
    return text + ") -> " + ggml_type_name(node->type);
}

} // namespace

refused_op::refused_op(ggml_backend_t backend, const ggml_tensor * node)
    : std::runtime_error(std::string("KV compression: backend ") + ggml_backend_name(backend) +
                         " does not support " + describe(node)),
      op(describe(node)) {}

bool backend_supports(ggml_backend_dev_t device, const ggml_tensor * node) {
    // ggml does not ask an RPC server's devices and answers yes for them. Of the ops used here only
    // this one is missing on some devices, and there is a form of the graph without it.
    const bool remote =
        std::strcmp(ggml_backend_reg_name(ggml_backend_dev_backend_reg(device)), "RPC") == 0;
    return !(remote && node->op == GGML_OP_OUT_PROD) && ggml_backend_dev_supports_op(device, node);
}

graph_runner::graph_runner(ggml_backend_t backend, size_t compute_bytes, op_gate gate)
    : backend_(backend), compute_bytes_(compute_bytes), gate_(std::move(gate)),
      galloc_(ggml_gallocr_new(ggml_backend_get_default_buffer_type(backend))) {}

bool graph_runner::supports(const ggml_tensor * node) const {
    return backend_supports(ggml_backend_get_device(backend_), node) && (!gate_ || gate_(node));
}

bool graph_runner::on_host() const {
    return ggml_backend_buft_is_host(ggml_backend_get_default_buffer_type(backend_));
}

bool graph_runner::on_cpu() const {
    const ggml_backend_dev_t device = ggml_backend_get_device(backend_);
    return on_host() && device && ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_CPU;
}

ggml_context * graph_runner::begin(size_t n_nodes) {
    // leave space for the views that nodes are made with
    const size_t n_tensors = 4 * n_nodes + 64;
    ctx_.reset(ggml_init(
        {n_tensors * ggml_tensor_overhead() + ggml_graph_overhead_custom(n_tensors, false), nullptr,
         /*no_alloc =*/true}));
    graph_ = ggml_new_graph_custom(ctx_.get(), n_tensors, false);
    return ctx_.get();
}

void graph_runner::alloc() {
    for (int i = 0; i < ggml_graph_n_nodes(graph_); ++i) {
        const ggml_tensor * node = ggml_graph_node(graph_, i);
        if (!supports(node)) {
            throw refused_op(backend_, node);
        }
    }
    if (!ggml_gallocr_alloc_graph(galloc_.get(), graph_)) {
        throw std::runtime_error(std::string("KV compression: no memory for a graph on ") +
                                 ggml_backend_name(backend_));
    }
    count(0);
}

void graph_runner::count(size_t bytes) {
    peak_bytes_ = std::max(peak_bytes_, ggml_gallocr_get_buffer_size(galloc_.get(), 0) + bytes);
}

void graph_runner::compute() {
    const ggml_status status = ggml_backend_graph_compute(backend_, graph_);
    if (status != GGML_STATUS_SUCCESS) {
        throw std::runtime_error(std::string("KV compression: graph failed on ") +
                                 ggml_backend_name(backend_) + ": " +
                                 ggml_status_to_string(status));
    }
}

graph_runner & graph_runners::of(ggml_backend_t backend) {
    std::unique_ptr<graph_runner> & runner = runners_[backend];
    if (!runner) {
        runner = std::make_unique<graph_runner>(backend, compute_bytes_, gate_);
    }
    return *runner;
}

size_t graph_runners::peak_bytes() const {
    size_t bytes = 0;
    for (const auto & [backend, runner] : runners_) {
        bytes += runner->peak_bytes();
    }
    return bytes;
}

void graph_runners::restrict_to(op_gate gate) {
    runners_.clear();
    gate_ = std::move(gate);
}

ggml_tensor * as_leaf(ggml_context * ctx, const ggml_tensor * t) {
    ggml_tensor * leaf = ggml_new_tensor(ctx, t->type, GGML_MAX_DIMS, t->ne);
    std::memcpy(leaf->nb, t->nb, sizeof(leaf->nb));
    leaf->data = t->data;
    leaf->buffer = t->view_src ? t->view_src->buffer : t->buffer;
    return leaf;
}

ggml_tensor * aligned(const graph_runner & runner, ggml_context * ctx, ggml_tensor * view) {
    // the buffer's base is aligned as well, so addresses can be compared
    const size_t alignment = ggml_backend_get_alignment(runner.backend());
    if (reinterpret_cast<uintptr_t>(view->data) % alignment == 0) {
        return view;
    }
    ggml_tensor * copy = ggml_cont(ctx, view);
    return runner.supports(copy) ? copy : view;
}

size_t tile_bytes(const graph_runner & runner) {
    const size_t half = runner.compute_bytes() / 2;
    return runner.on_host() ? std::min(size_t(2) << 20, half) : half;
}

} // namespace lookm
