#include "lookm/graph/cpu_attention.h"

#include "lookm/graph/cpu_attention_amx.h"
#include "lookm/graph/cpu_attention_floats.h"
#include "lookm/graph/cpu_attention_node.h"
#include "lookm/graph/cpu_attention_plan.h"
#include "lookm/graph/cpu_attention_tiles.h"

#include "ggml-cpu-impl.h"
#include "ggml.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>

// llama.cpp's own (ops.h)
extern "C" void ggml_compute_forward_flash_attn_ext(const ggml_compute_params * params,
                                                    ggml_tensor * dst);

namespace lookm::attention {

namespace {

// From so many queries on, a batch is a prompt. Fewer may be tokens of several answers, each of
// which gets the same bits as alone.
constexpr int64_t n_queries_of_prompt = 64;

// Writes a row of the output.
void write(const attention_node & node, int64_t query, int64_t head, int64_t sequence,
           const weighted_sum & sum, ggml_tensor * dst) {
    float factor = 1.0f, total = sum.total;
    if (node.sinks) { // as of one more cell without a value
        const float sink = static_cast<const float *>(node.sinks->data)[head] * log2_e;
        const float most = std::max(sum.shift, sink);
        factor = std::exp2(sum.shift - most);
        total = total * factor + std::exp2(sink - most);
    }
    factor = total > 0.0f ? factor / total : 0.0f;
    auto * row = reinterpret_cast<float *>(static_cast<char *>(dst->data) +
                                           ((sequence * dst->ne[2] + query) * dst->ne[1] + head) *
                                               dst->nb[1]);
    for (int64_t e = 0; e < dst->ne[0]; e += n_lanes) {
        store(row + e, splat(factor) * load(sum.values + e));
    }
}

// The sums of all chunks [n_chunks][d_v + 2] become that of all cells, in the first one's place.
weighted_sum united(float * chunks, int64_t n_chunks, int64_t d_v) {
    const int64_t n_sum = d_v + 2;
    weighted_sum all = {chunks, nothing_seen, 0.0f};
    for (int64_t c = 0; c < n_chunks; ++c) {
        all.shift = std::max(all.shift, chunks[c * n_sum + d_v]);
    }
    for (int64_t c = 0; c < n_chunks; ++c) {
        const float * sum = chunks + c * n_sum;
        const float weight = std::exp2(sum[d_v] - all.shift);
        all.total += weight * sum[d_v + 1];
        for (int64_t e = 0; e < d_v; e += n_lanes) {
            const floats value = splat(weight) * load(sum + e);
            store(all.values + e, c == 0 ? value : load(all.values + e) + value);
        }
    }
    return all;
}

template <class products>
bool compute(const ggml_compute_params * params, const attention_node & node, ggml_tensor * dst) {
    const plan<products> how(params, node);
    if (!how.fits(node)) {
        return false;
    }
    const int64_t d_v = node.v->ne[0];
    const bool is_static = plan<products>::is_of_few; // its tasks take the same time
    if (!is_static) {
        if (params->ith == 0) {
            ggml_threadpool_chunk_set(params->threadpool, params->nth);
        }
        ggml_barrier(params->threadpool);
    }
    {
        tiles<products> own(node, how.scratch(params));
        int64_t i = params->ith;
        while (i < how.n_tasks) {
            const task what = how.task_of(i, node);
            own.compute(what, [&](int64_t query, int64_t head, const weighted_sum & sum) {
                if (how.n_chunks == 1) {
                    write(node, query, head, what.sequence, sum, dst);
                    return;
                }
                const int64_t number =
                    (what.sequence * node.q->ne[1] + query) * node.q->ne[2] + head;
                float * const to = how.sums_of(params, number, what.cell / how.chunk);
                std::memcpy(to, sum.values, d_v * sizeof(float));
                to[d_v] = sum.shift;
                to[d_v + 1] = sum.total;
            });
            i = is_static ? i + params->nth : ggml_threadpool_chunk_add(params->threadpool, 1);
        }
    }
    if (how.n_chunks > 1) {
        ggml_barrier(params->threadpool);
        for (int64_t i = params->ith; i < how.n_sums; i += params->nth) {
            const int64_t head = i % node.q->ne[2], query = i / node.q->ne[2];
            write(node, query % node.q->ne[1], head, query / node.q->ne[1],
                  united(how.sums_of(params, i, 0), how.n_chunks, d_v), dst);
        }
    }
    return true;
}

// For comparisons: LOOKM_ATTENTION=ggml, or floats, which is without AMX
bool wants(const char * who) {
    static const char * const wanted = std::getenv("LOOKM_ATTENTION");
    return wanted && std::strcmp(wanted, who) == 0;
}

bool can_read(const ggml_tensor * t) {
    return t->nb[0] == ggml_type_size(t->type) && t->ne[0] % n_lanes == 0 &&
           (t->type == GGML_TYPE_F32 || ggml_get_type_traits(t->type)->to_float);
}

bool can_compute(const ggml_compute_params * params, const attention_node & node,
                 const ggml_tensor * dst) {
    static const bool is_off = wants("ggml");
    return !is_off && !params->use_ref && node.q->type == GGML_TYPE_F32 &&
           node.q->nb[0] == sizeof(float) && can_read(node.k) && can_read(node.v) &&
           node.k->ne[1] > 0 && (!node.mask || node.mask->type == GGML_TYPE_F16) &&
           dst->type == GGML_TYPE_F32;
}

#ifdef LOOKM_AMX
// Who chose f32 for the cache keeps it. All other types have no more than the 16 bits that AMX
// gets.
bool wants_amx(const attention_node & node) {
    static const bool can = !wants("floats") && can_use_amx();
    return can && node.k->type != GGML_TYPE_F32 && node.v->type != GGML_TYPE_F32 &&
           node.k->ne[0] % 32 == 0 && node.v->ne[0] % 32 == 0;
}
#endif

bool compute(const ggml_compute_params * params, ggml_tensor * dst) {
    const attention_node node(dst);
    if (!can_compute(params, node, dst)) {
        return false;
    }
    if (node.q->ne[1] < n_queries_of_prompt) {
        return compute<row_products>(params, node, dst);
    }
#ifdef LOOKM_AMX
    if (wants_amx(node)) {
        return compute<amx_products>(params, node, dst);
    }
#endif
    return compute<float_products>(params, node, dst);
}

} // namespace

} // namespace lookm::attention

extern "C" void lookm_flash_attn_ext(const ggml_compute_params * params, ggml_tensor * dst) {
    if (!lookm::attention::compute(params, dst)) {
        ggml_compute_forward_flash_attn_ext(params, dst);
    }
}
