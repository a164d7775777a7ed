#include "lookm/graph/host_copies.h"

#include <cstring>

namespace lookm {

host_copies::host_copies(ggml_backend_t cpu)
    : cpu_(cpu), ctx_(ggml_init({8 * ggml_tensor_overhead(), nullptr, /*no_alloc =*/true})),
      leaves_(ggml_init({8 * ggml_tensor_overhead(), nullptr, /*no_alloc =*/true})) {}

ggml_tensor * host_copies::add(const ggml_tensor * t) {
    if (!t) {
        return nullptr;
    }
    ggml_tensor * copy = ggml_new_tensor(ctx_.get(), t->type, GGML_MAX_DIMS, t->ne);
    std::memcpy(copy->nb, t->nb, sizeof(copy->nb));
    source_[copy] = as_leaf(leaves_.get(), t);
    return copy;
}

void host_copies::fetch() {
    buffer_.reset(ggml_backend_alloc_ctx_tensors(ctx_.get(), cpu_));
    if (!buffer_) {
        throw std::runtime_error(
            "KV compression: no memory on the host for what a device refuses to compute");
    }
    for (const auto & [copy, t] : source_) {
        ggml_backend_tensor_get(t, copy->data, 0, ggml_nbytes(t));
    }
}

void host_copies::put_back(const ggml_tensor * copy) {
    ggml_backend_tensor_set(source_.at(copy), copy->data, 0, ggml_nbytes(copy));
}

} // namespace lookm
