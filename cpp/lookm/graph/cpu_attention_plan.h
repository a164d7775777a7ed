#pragma once

#include "lookm/graph/cpu_attention_node.h"
#include "lookm/graph/cpu_attention_tiles.h"

#include "ggml-cpu-impl.h"
#include "ggml.h"

#include <algorithm>
#include <cstdint>

// As in cpu_vector.h, everything has internal linkage.
namespace lookm::attention {

namespace {

// If there are more threads than heads of keys, the cells of a single query are cut into so many
// chunks at most. Where they are cut changes its last bits, as it always does with ggml.
constexpr int64_t n_chunks_most = 4;
constexpr int64_t chunk_least = 256; // cells

// How a node's work is cut into tasks, and the memory of its threads. Few queries are one task's;
// of a prompt, each task has as many as a block has columns, and the last ones are first, as they
// see the most cells.
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
    // as ggml's memory and the CPU's cache hold, and so few that all threads have tasks.
    int64_t n_blocks_of_a_task(const attention_node & node) const {
        constexpr int64_t cache = 512 * 1024;
        const int64_t room = std::min(n_bytes_of_thread(), cache);
        const int64_t common = n_bytes(node, 0);
        int64_t most =
            std::min((room - common) / (n_bytes(node, 1) - common), tiles<products>::n_blocks_most);
        // tasks of a prompt do not take the same time
        const int64_t n_tasks_wanted = is_of_few ? n_threads : 4 * n_threads;
        const int64_t n_all =
            n_query_tasks * node.q->ne[3] * (node.q->ne[2] / n_group) * n_all_blocks * n_chunks;
        most = std::min(most, n_all / n_tasks_wanted);
        return std::clamp<int64_t>(most, 1, n_all_blocks);
    }
};

} // namespace

} // namespace lookm::attention
