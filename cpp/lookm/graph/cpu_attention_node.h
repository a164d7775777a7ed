#pragma once

#include "ggml.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

// A node of GGML_OP_FLASH_ATTN_EXT. As in cpu_vector.h, everything has internal linkage.
namespace lookm::attention {

namespace {

// The node's tensors, and what is the same for all of its tiles.
struct attention_node {
    explicit attention_node(const ggml_tensor * dst)
        : q(dst->src[0]), k(dst->src[1]), v(dst->src[2]), mask(dst->src[3]), sinks(dst->src[4]) {
        float params[3]; // scale, max_bias, softcap
        std::memcpy(params, dst->op_params, sizeof(params));
        softcap = params[2];
        factor = softcap == 0.0f ? params[0] : params[0] / softcap;
        max_bias = params[1];
    }

    // ALiBi's, 1 without it
    float slope(int64_t head) const {
        if (max_bias <= 0.0f) {
            return 1.0f;
        }
        const auto n = static_cast<float>(int64_t(1) << static_cast<int>(std::log2(q->ne[2])));
        const auto h = static_cast<float>(head);
        return h < n ? std::pow(std::pow(2.0f, -max_bias / n), h + 1.0f)
                     : std::pow(std::pow(2.0f, -max_bias / 2.0f / n), 2.0f * (h - n) + 1.0f);
    }
    // Heads of one key and one value
    int64_t n_group() const { return q->ne[2] / std::max(k->ne[2], v->ne[2]); }
    // Whether a query's mask is the same for all heads
    bool has_one_mask() const { return !mask || (mask->ne[2] == 1 && max_bias <= 0.0f); }
    const ggml_fp16_t * mask_row(int64_t query, int64_t head, int64_t sequence) const {
        return reinterpret_cast<const ggml_fp16_t *>(
            static_cast<const char *>(mask->data) + query * mask->nb[1] +
            head % mask->ne[2] * mask->nb[2] + sequence % mask->ne[3] * mask->nb[3]);
    }

    const ggml_tensor *q, *k, *v, *mask, *sinks;
    float factor, softcap, max_bias;
};

const char * row_of(const ggml_tensor * t, int64_t row, int64_t head, int64_t sequence) {
    return static_cast<const char *>(t->data) + row * t->nb[1] + head * t->nb[2] +
           sequence * t->nb[3];
}

} // namespace

} // namespace lookm::attention
