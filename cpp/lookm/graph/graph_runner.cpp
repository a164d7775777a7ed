#include "lookm/graph/graph_runner.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

namespace lookm {

graph_runner::graph_runner(ggml_backend_t backend)
    : backend_(backend), galloc_(ggml_gallocr_new(ggml_backend_get_default_buffer_type(backend))) {}

bool graph_runner::on_host() const {
    return ggml_backend_buft_is_host(ggml_backend_get_default_buffer_type(backend_));
}

bool graph_runner::on_cpu() const {
    const ggml_backend_dev_t device = ggml_backend_get_device(backend_);
    return on_host() && device && ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_CPU;
}

ggml_context * graph_runner::begin(size_t n_nodes) {
    // every node may bring a view or two of its own
    const size_t n_tensors = 4 * n_nodes + 64;
    ctx_.reset(ggml_init({n_tensors * ggml_tensor_overhead() + ggml_graph_overhead_custom(n_tensors, false), nullptr,
                          /*no_alloc =*/true}));
    graph_ = ggml_new_graph_custom(ctx_.get(), n_tensors, false);
    return ctx_.get();
}

void graph_runner::alloc() {
    for (int i = 0; i < ggml_graph_n_nodes(graph_); ++i) {
        const ggml_tensor * node = ggml_graph_node(graph_, i);
        if (!supports(node)) {
            throw std::runtime_error(std::string("KV compression: backend ") + ggml_backend_name(backend_) +
                                     " does not support " + ggml_op_desc(node) + " on " + ggml_type_name(node->type));
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
        throw std::runtime_error(std::string("KV compression: graph failed on ") + ggml_backend_name(backend_) + ": " +
                                 ggml_status_to_string(status));
    }
}

ggml_tensor * as_leaf(ggml_context * ctx, const ggml_tensor * t) {
    ggml_tensor * leaf = ggml_new_tensor(ctx, t->type, GGML_MAX_DIMS, t->ne);
    std::memcpy(leaf->nb, t->nb, sizeof(leaf->nb));
    leaf->data = t->data;
    leaf->buffer = t->view_src ? t->view_src->buffer : t->buffer;
    return leaf;
}

size_t tile_bytes(const graph_runner & runner) {
    return runner.on_host() ? size_t(2) << 20 : size_t(64) << 20;
}

} // namespace lookm
