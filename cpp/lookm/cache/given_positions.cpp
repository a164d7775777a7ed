#include "lookm/cache/given_positions.h"

#include "lookm/cache/kv_cache.h"

#include "ggml.h"

#include <algorithm>
#include <cstdint>
#include <stdexcept>

namespace lookm {

given_positions::given_positions(llama_context * ctx) : ctx_(ctx) {
    const auto [callback, data] = kv_cache::eval_callback(ctx);
    inner_ = callback;
    inner_data_ = data;
    kv_cache::set_eval_callback(ctx, on_node, this);
}

given_positions::~given_positions() {
    kv_cache::set_eval_callback(ctx_, inner_, inner_data_);
}

void given_positions::before(llama_pos first, std::span<const llama_pos> positions) {
    first_ = first;
    positions_.assign(positions.begin(), positions.end());
    replaced_.clear();
}

void given_positions::after(llama_seq_id seq) {
    llama_synchronize(ctx_);
    if (missed_) {
        throw std::runtime_error("image_ratio: llama.cpp divided a batch of an image");
    }
    kv_cache::set_positions(ctx_, seq, first_, positions_);
}

bool given_positions::supported(llama_context * ctx) {
    return kv_cache::can_set_positions(ctx);
}

bool given_positions::on_node(ggml_tensor * node, bool ask, void * self) {
    auto & given = *static_cast<given_positions *>(self);
    if (ask && node->op == GGML_OP_ROPE && node->src[1]) {
        given.replace(node->src[1]);
    }
    return given.inner_ ? given.inner_(node, ask, given.inner_data_) : !ask;
}

void given_positions::replace(ggml_tensor * positions) {
    if (positions->type != GGML_TYPE_I32 ||
        positions->ne[0] != static_cast<int64_t>(positions_.size())) {
        missed_ = true;
        return;
    }
    if (std::find(replaced_.begin(), replaced_.end(), positions) != replaced_.end()) {
        return;
    }
    ggml_backend_tensor_set(positions, positions_.data(), 0, ggml_nbytes(positions));
    replaced_.push_back(positions);
}

} // namespace lookm
