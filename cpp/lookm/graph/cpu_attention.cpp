#include "lookm/graph/cpu_attention.h"

#include "lookm/graph/cpu_attention_amx.h"
#include "lookm/graph/cpu_attention_floats.h"
#include "lookm/graph/cpu_attention_node.h"
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

// From so many queries on, a batch is a prompt. Fewer may be tokens of several answers, each of which
// gets the same bits as alone.
constexpr int64_t n_queries_of_prompt = 64;

// If there are more threads than heads of keys, the cells of a single query are cut into so many
// chunks at most. Where they are cut changes its last bits, as it always does with ggml.
constexpr int64_t n_chunks_most = 4;
constexpr int64_t chunk_least = 256; // cells

// How a node's work is cut into tasks, and the memory of its threads. Few queries are one task's; of
// a prompt, each task has as many as a block has columns, and the last ones are first, as they see
// the most cells.
template <class products>
struct plan {
    static constexpr bool is_of_few = products::width == 1;

    plan(const ggml_compute_params * params, const attention_node & node)
        : n_threads(params->nth), size(static_cast<int64_t>(params->wsize)),
          n_queries(is_of_few ? node.q->ne[1] : products::width),
          n_query_tasks((node.q->ne[1] + n_queries - 1) / n_queries), n_group(node.n_group()),
          n_all_blocks((n_queries * n_group + products::width - 1) / products::width) {
        const int64_t n_kv = node.k->ne[1];
        n_sums = node.q->ne[1] * node.q->ne[2] * node.q->ne[3];
        const bool cuts_cells = node.q->ne[1] == 1 && n_threads > node.q->ne[2] / n_group;
        n_chunks = cuts_cells ? std::clamp<int64_t>(n_kv / chunk_least, 1, n_chunks_most) : 1;
        chunk = ((n_kv + n_chunks - 1) / n_chunks + products::n_cells - 1) / products::n_cells *
                products::n_cells;
        n_chunks = (n_kv + chunk - 1) / chunk;
        n_sum = node.v->ne[0] + 2;
        if (n_bytes(node, 1) > n_bytes_of_thread()) {
            n_chunks = 1;
            chunk = n_kv;
        }
        n_blocks = n_blocks_of_a_task(node);
        n_parts = (n_all_blocks + n_blocks - 1) / n_blocks;
        n_tasks = n_query_tasks * node.q->ne[3] * (node.q->ne[2] / n_group) * n_parts * n_chunks;
    }

    bool fits(const attention_node & node) const { return n_bytes(node, 1) <= n_bytes_of_thread(); }

    // With no blocks if the task is of fewer queries than others, and so of fewer blocks
    task task_of(int64_t i, const attention_node & node) const {
        task t = {};
        t.n_group = n_group;
        const int64_t chunk_number = i % n_chunks;
        t.cell = chunk_number * chunk;
        t.cell_end = std::min(t.cell + chunk, node.k->ne[1]);
        i /= n_chunks;
        t.first_block = i % n_parts * n_blocks;
        i /= n_parts;
        t.head = i % (node.q->ne[2] / n_group) * n_group;
        i /= node.q->ne[2] / n_group;
        t.first = (n_query_tasks - 1 - i % n_query_tasks) * n_queries;
        t.n = std::min(n_queries, node.q->ne[1] - t.first);
        t.sequence = i / n_query_tasks;
        const int64_t n_here = (t.n * n_group + products::width - 1) / products::width;
        t.n_blocks = std::clamp<int64_t>(n_here - t.first_block, 0, n_blocks);
        return t;
    }

    // This thread's memory
    float * scratch(const ggml_compute_params * params) const {
        return memory(params, params->ith * n_bytes_of_thread());
    }
    // Where the sums of a chunk of cells are until all are added up: n_sum floats, the values first
    float * sums_of(const ggml_compute_params * params, int64_t sum, int64_t chunk_number) const {
        return memory(params, n_threads * n_bytes_of_thread()) +
               (sum * n_chunks + chunk_number) * n_sum;
    }

    int64_t n_threads, size;
    int64_t n_queries, n_query_tasks, n_group;
    int64_t n_all_blocks, n_blocks, n_parts; // of the heads of a group; of a task; tasks of them
    int64_t n_chunks, chunk;                 // of cells; cells of one
    int64_t n_sums, n_sum;                   // of the node; floats of one
    int64_t n_tasks;

  private:
    static constexpr int64_t line = 64; // of the CPU's cache. ggml has added one for each thread.

    int64_t n_bytes_of_thread() const {
        const int64_t of_sums = n_chunks > 1 ? n_sums * n_chunks * n_sum * 4 + line : 0;
        return std::max<int64_t>(size - of_sums, 0) / n_threads / line * line;
    }
    static int64_t n_bytes(const attention_node & node, int64_t n_blocks) {
        return tiles<products>::n_floats(node.k->ne[0], node.v->ne[0], n_blocks) * 4 + line;
    }
    static float * memory(const ggml_compute_params * params, int64_t at) {
        const uintptr_t begin = reinterpret_cast<uintptr_t>(params->wdata) + at;
        return reinterpret_cast<float *>((begin + line - 1) / line * line);
    }

    // Blocks of the same task share the keys and values that were read for them. They are as many
    // as ggml's memory and the CPU's cache hold, and so few that all threads have several tasks.
    int64_t n_blocks_of_a_task(const attention_node & node) const {
        constexpr int64_t cache = 512 * 1024;
        const int64_t room = std::min(n_bytes_of_thread(), cache);
        const int64_t common = n_bytes(node, 0);
        int64_t most = std::min((room - common) / (n_bytes(node, 1) - common),
                                tiles<products>::n_blocks_most);
        if (!is_of_few) {
            const int64_t n_all =
                n_query_tasks * node.q->ne[3] * (node.q->ne[2] / n_group) * n_all_blocks;
            most = std::min(most, n_all / (4 * n_threads));
        }
        return std::clamp<int64_t>(most, 1, n_all_blocks);
    }
};

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
    auto * row = reinterpret_cast<float *>(
        static_cast<char *>(dst->data) +
        ((sequence * dst->ne[2] + query) * dst->ne[1] + head) * dst->nb[1]);
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
// Who chose f32 for the cache keeps it. All other types have no more than the 16 bits that AMX gets.
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
