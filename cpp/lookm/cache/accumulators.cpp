#include "lookm/cache/accumulators.h"

#include <stdexcept>
#include <string>
#include <utility>

namespace lookm {

accumulators::accumulators(const std::vector<kv_layer> & layers) {
    for (const kv_layer & layer : layers) {
        const ggml_tensor * k = layer.k.storage;
        const ggml_backend_buffer_type_t buft = ggml_backend_buffer_get_type(k->buffer);
        ggml_context_ptr ctx{ggml_init({ggml_tensor_overhead(), nullptr, /*no_alloc =*/true})};
        tensors_.push_back(ggml_new_tensor_3d(ctx.get(), GGML_TYPE_F32, layer.k.n_cells,
                                              layer.k.n_head_kv, k->ne[2]));
        buffers_.emplace_back(ggml_backend_alloc_ctx_tensors_from_buft(ctx.get(), buft));
        contexts_.push_back(std::move(ctx));
        if (!buffers_.back()) {
            throw std::runtime_error("KV compression: no memory for scores on " +
                                     std::string(ggml_backend_buft_name(buft)));
        }
    }
}

size_t accumulators::bytes_for(const std::vector<kv_layer> & layers) {
    size_t bytes = 0;
    for (const kv_layer & layer : layers) {
        bytes += layer.k.n_cells * layer.k.n_head_kv * layer.k.storage->ne[2] * sizeof(float);
    }
    return bytes;
}

void accumulators::clear() {
    for (const ggml_backend_buffer_ptr & buffer : buffers_) {
        ggml_backend_buffer_clear(buffer.get(), 0);
    }
}

std::vector<float> accumulators::read(size_t i, const std::vector<cell> & cells) const {
    const ggml_tensor * t = tensors_[i];
    std::vector<float> all(t->ne[0] * t->ne[1]);
    const size_t stream = cells.empty() ? 0 : cells.front().stream;
    ggml_backend_tensor_get(t, all.data(), stream * t->nb[2], all.size() * sizeof(float));
    const size_t n_kv = cells.size();
    std::vector<float> out(n_kv * t->ne[1]);
    for (int64_t h = 0; h < t->ne[1]; ++h) {
        for (size_t c = 0; c < n_kv; ++c) {
            out[h * n_kv + c] = all[h * t->ne[0] + cells[c].index];
        }
    }
    return out;
}

void accumulators::write(size_t i, const std::vector<cell> & cells,
                         const std::vector<float> & values) {
    ggml_tensor * t = tensors_[i];
    std::vector<float> all(t->ne[0] * t->ne[1]);
    const size_t stream = cells.empty() ? 0 : cells.front().stream;
    ggml_backend_tensor_get(t, all.data(), stream * t->nb[2], all.size() * sizeof(float));
    for (int64_t h = 0; h < t->ne[1]; ++h) {
        for (size_t c = 0; c < cells.size(); ++c) {
            all[h * t->ne[0] + cells[c].index] = values[h * cells.size() + c];
        }
    }
    ggml_backend_tensor_set(t, all.data(), stream * t->nb[2], all.size() * sizeof(float));
}

void accumulators::move(size_t i, int32_t stream, std::span<const int32_t> from,
                        std::span<const int32_t> to, std::span<const int32_t> emptied) {
    ggml_tensor * t = tensors_[i];
    std::vector<float> all(t->ne[0] * t->ne[1]);
    ggml_backend_tensor_get(t, all.data(), stream * t->nb[2], all.size() * sizeof(float));
    const std::vector<float> old = all;
    for (int64_t h = 0; h < t->ne[1]; ++h) {
        for (const int32_t c : emptied) {
            all[h * t->ne[0] + c] = 0.0f;
        }
        for (size_t r = 0; r < to.size(); ++r) {
            all[h * t->ne[0] + to[r]] = old[h * t->ne[0] + from[h * to.size() + r]];
        }
    }
    ggml_backend_tensor_set(t, all.data(), stream * t->nb[2], all.size() * sizeof(float));
}

size_t accumulators::bytes() const {
    size_t bytes = 0;
    for (const ggml_backend_buffer_ptr & buffer : buffers_) {
        bytes += ggml_backend_buffer_get_size(buffer.get());
    }
    return bytes;
}

} // namespace lookm
