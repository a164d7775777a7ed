#pragma once

#include "lookm/graph/cpu_vector.h"

#include "ggml-cpu.h"
#include "ggml.h"
#include "quants.h"
#include "simd-mappings.h"

#include <cstdint>
#include <cstring>

// Rows of K and V as floats. As in cpu_vector.h, everything has internal linkage.
namespace lookm::attention {

namespace {

// ggml's to_float is compiled for any CPU; these two, of what caches are quantized to most, are
// compiled for this one.
void read_blocks(const block_q8_0 * blocks, int64_t n, float * out) {
    for (int64_t b = 0; b < n / QK8_0; ++b, out += QK8_0) {
        const float d = GGML_CPU_FP16_TO_FP32(blocks[b].d);
        for (int64_t i = 0; i < QK8_0; ++i) {
            out[i] = d * static_cast<float>(blocks[b].qs[i]);
        }
    }
}

void read_blocks(const block_q4_0 * blocks, int64_t n, float * out) {
    constexpr int64_t half = QK4_0 / 2;
    for (int64_t b = 0; b < n / QK4_0; ++b, out += QK4_0) {
        const float d = GGML_CPU_FP16_TO_FP32(blocks[b].d);
        for (int64_t i = 0; i < half; i += simd::n_lanes) {
            const simd::ints both = simd::load(blocks[b].qs + i);
            simd::store(out + i, simd::splat(d) * simd::to_floats((both & 15) - 8));
            simd::store(out + half + i, simd::splat(d) * simd::to_floats((both >> 4) - 8));
        }
    }
}

// As to_floats() of kv_rows.h, which ggml's library cannot call: that is linked before it.
void read_row(ggml_type type, const char * row, int64_t n, float * out) {
    switch (type) {
        case GGML_TYPE_F32:
            std::memcpy(out, row, n * sizeof(float));
            break;
        case GGML_TYPE_F16:
            ggml_cpu_fp16_to_fp32(reinterpret_cast<const ggml_fp16_t *>(row), out, n);
            break;
        case GGML_TYPE_Q8_0:
            read_blocks(reinterpret_cast<const block_q8_0 *>(row), n, out);
            break;
        case GGML_TYPE_Q4_0:
            read_blocks(reinterpret_cast<const block_q4_0 *>(row), n, out);
            break;
        default:
            ggml_get_type_traits(type)->to_float(row, out, n);
    }
}

} // namespace

} // namespace lookm::attention
