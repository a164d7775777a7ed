#include "lookm/graph/compress_forms.h"
#include "lookm/graph/host_copies.h"
#include "lookm/graph/score_forms.h"

#include <algorithm>

namespace lookm {

namespace {

// Copies cells [first, last] back to the device; of a transposed storage the whole, as those cells
// are spread over all of it.
void put_back(const kv_rows & rows, const ggml_tensor * copy, int32_t first, int32_t last) {
    const int64_t n_embd = rows.n_head_kv * rows.head_dim;
    const size_t cell = ggml_row_size(rows.storage->type, n_embd);
    const size_t at = rows.transposed ? rows.offset : rows.offset + first * cell;
    const size_t size = (rows.transposed ? rows.n_cells : last - first + 1) * cell;
    ggml_backend_tensor_set(rows.storage, static_cast<const char *>(copy->data) + at, at, size);
}

} // namespace

matches compress_staged(graph_runner & cpu, const kv_layer & layer, const method & m,
                        const layer_plan & plan) {
    host_copies copies(cpu.backend());
    kv_layer on_host = layer;
    on_host.k.storage = copies.add(layer.k.storage);
    on_host.v.storage = copies.add(layer.v.storage);
    copies.fetch();
    matches matched = compress_layer(cpu, on_host, m, plan, /*on_device =*/false);
    const auto [first, last] = std::minmax_element(plan.target.begin(), plan.target.end());
    put_back(layer.k, on_host.k.storage, *first, *last);
    put_back(layer.v, on_host.v.storage, *first, *last);
    cpu.count(copies.bytes());
    return matched;
}

namespace {

// Copies of out's tensors on the host, which can be copied back
struct staged_sums {
    host_copies & copies;
    score_sums on_host;

    staged_sums(host_copies & c, const score_sums & out)
        : copies(c), on_host{c.add(out.sum), c.add(out.squares)} {}

    void put_back() const {
        copies.put_back(on_host.sum);
        if (on_host.squares) {
            copies.put_back(on_host.squares);
        }
    }
};

} // namespace

void add_scores_staged(graph_runner & cpu, const attention & attn, const score_sums & out) {
    host_copies copies(cpu.backend());
    attention on_host = attn;
    on_host.q = copies.add(attn.q);
    on_host.k = copies.add(attn.k);
    on_host.mask = copies.add(attn.mask);
    on_host.sinks = copies.add(attn.sinks);
    const staged_sums sums(copies, out);
    copies.fetch();
    add_scores(cpu, on_host, sums.on_host);
    sums.put_back();
    cpu.count(copies.bytes());
}

void add_scores_staged(graph_runner & cpu, const ggml_tensor * probs, const score_sums & out) {
    host_copies copies(cpu.backend());
    const ggml_tensor * on_host = copies.add(probs);
    const staged_sums sums(copies, out);
    copies.fetch();
    add_scores(cpu, on_host, sums.on_host);
    sums.put_back();
    cpu.count(copies.bytes());
}

} // namespace lookm
