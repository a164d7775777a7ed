#include "lookm/llama/score_tap.h"

#include "lookm/graph/score_graph.h"

#include <chrono>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <utility>

namespace lookm {

namespace {

// The cache tensor that a node's K comes from: through views, and through the cast that f32 caches get.
const ggml_tensor * storage_of(const ggml_tensor * t) {
    while (t->view_src || t->op == GGML_OP_CPY) {
        t = t->op == GGML_OP_CPY ? t->src[0] : t->view_src;
    }
    return t;
}

float op_param(const ggml_tensor * node, int i) {
    float value;
    std::memcpy(&value, reinterpret_cast<const char *>(node->op_params) + i * sizeof(float), sizeof(float));
    return value;
}

} // namespace

score_tap::score_tap(kv_cache & kv) : kv_(kv) {
    for (size_t i = 0; i < kv.layers().size(); ++i) {
        const kv_layer & layer = kv.layers()[i];
        layer_by_storage_[layer.k.storage] = i;
        const ggml_backend_buffer_type_t buft = ggml_backend_buffer_get_type(layer.k.storage->buffer);
        ggml_context_ptr ctx{ggml_init({ggml_tensor_overhead(), nullptr, /*no_alloc =*/true})};
        sums_.push_back(ggml_new_tensor_2d(ctx.get(), GGML_TYPE_F32, layer.k.n_cells, layer.k.n_head_kv));
        buffers_.emplace_back(ggml_backend_alloc_ctx_tensors_from_buft(ctx.get(), buft));
        contexts_.push_back(std::move(ctx));
        if (!buffers_.back()) {
            throw std::runtime_error("KV compression: no memory for scores on " +
                                     std::string(ggml_backend_buft_name(buft)));
        }
    }
}

score_tap::~score_tap() {
    disarm();
}

void score_tap::arm() {
    for (const ggml_backend_buffer_ptr & buffer : buffers_) {
        ggml_backend_buffer_clear(buffer.get(), 0);
    }
    error_ = nullptr;
    seconds_ = 0.0;
    armed_ = true;
    kv_.set_eval_callback(on_node, this);
}

void score_tap::disarm() {
    if (armed_) {
        kv_.set_eval_callback(nullptr, nullptr);
        armed_ = false;
    }
}

void score_tap::rethrow() {
    if (error_) {
        std::rethrow_exception(std::exchange(error_, nullptr));
    }
}

bool score_tap::on_node(ggml_tensor * node, bool ask, void * self) {
    auto & tap = *static_cast<score_tap *>(self);
    const int layer = tap.layer_of(node);
    if (ask) {
        return layer >= 0;
    }
    if (layer < 0) {
        return true;
    }
    const auto start = std::chrono::steady_clock::now();
    try {
        tap.observe(node, static_cast<size_t>(layer));
    } catch (...) { // C code lies above: carry the exception around it
        tap.error_ = std::current_exception();
        return false;
    }
    tap.seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return true;
}

int score_tap::layer_of(const ggml_tensor * node) const {
    if (node->op == GGML_OP_FLASH_ATTN_EXT) {
        const auto found = layer_by_storage_.find(storage_of(node->src[1]));
        return found == layer_by_storage_.end() ? -1 : static_cast<int>(found->second);
    }
    int il = -1;
    if (node->op == GGML_OP_SOFT_MAX && std::sscanf(node->name, "kq_soft_max-%d", &il) == 1) {
        for (size_t i = 0; i < kv_.layers().size(); ++i) {
            if (kv_.layers()[i].il == il) {
                return static_cast<int>(i);
            }
        }
    }
    return -1;
}

void score_tap::observe(ggml_tensor * node, size_t i) {
    graph_runner & runner = runner_for(kv_.backend_of(node));
    if (node->op == GGML_OP_SOFT_MAX) {
        add_scores(runner, node, sums_[i]);
        return;
    }
    add_scores(runner,
               {node->src[0], node->src[1], node->src[3], node->src[4], op_param(node, 0), op_param(node, 1),
                op_param(node, 2)},
               sums_[i]);
}

graph_runner & score_tap::runner_for(ggml_backend_t backend) {
    std::unique_ptr<graph_runner> & runner = runners_[backend];
    if (!runner) {
        runner = std::make_unique<graph_runner>(backend);
    }
    return *runner;
}

std::vector<float> score_tap::scores(size_t i, const std::vector<cell> & cells) const {
    const ggml_tensor * sum = sums_[i];
    std::vector<float> all(ggml_nelements(sum));
    ggml_backend_tensor_get(sum, all.data(), 0, ggml_nbytes(sum));
    const size_t n_kv = cells.size();
    std::vector<float> out(n_kv * sum->ne[1]);
    for (int64_t h = 0; h < sum->ne[1]; ++h) {
        for (size_t c = 0; c < n_kv; ++c) {
            out[h * n_kv + c] = all[h * sum->ne[0] + cells[c].index];
        }
    }
    return out;
}

size_t score_tap::peak_bytes() const {
    size_t bytes = 0;
    for (const ggml_backend_buffer_ptr & buffer : buffers_) {
        bytes += ggml_backend_buffer_get_size(buffer.get());
    }
    for (const auto & [backend, runner] : runners_) {
        bytes += runner->peak_bytes();
    }
    return bytes;
}

} // namespace lookm
