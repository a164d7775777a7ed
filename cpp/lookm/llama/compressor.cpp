#include "lookm/llama/compressor.h"

#include "lookm/core/select.h"
#include "lookm/graph/compress_graph.h"

#include <algorithm>
#include <chrono>

namespace lookm {

namespace {

// Token order -> cell index, for every entry.
std::vector<int32_t> to_cells(const std::vector<int32_t> & order, const std::vector<cell> & cells) {
    std::vector<int32_t> out(order.size());
    std::transform(order.begin(), order.end(), out.begin(), [&](int32_t c) { return cells[c].index; });
    return out;
}

std::vector<int32_t> lowest_cells(const std::vector<cell> & cells, int32_t n) {
    std::vector<int32_t> index;
    for (const cell & c : cells) {
        index.push_back(c.index);
    }
    std::sort(index.begin(), index.end());
    index.resize(n);
    return index;
}

std::string why_nothing(const method & m, const budget & b, const compress_result & r) {
    if (!m.evicts) {
        return "method origin keeps the full cache";
    }
    if (m.prior == prior::text && r.n_image == 0) {
        return "no image in the prompt: a text-prior method keeps the full cache";
    }
    return "nothing to evict: the budget of " + std::to_string(b.n_keep()) + " cells covers the prompt's " +
           std::to_string(b.n_kv);
}

bool host_memory(const kv_layer & layer) {
    return ggml_backend_buffer_is_host(layer.k.storage->buffer) && ggml_backend_buffer_is_host(layer.v.storage->buffer);
}

} // namespace

compressor::compressor(llama_context * ctx) : kv_(ctx), tap_(kv_) {}

graph_runner & compressor::runner_for(const ggml_tensor * storage) {
    ggml_backend_t backend = kv_.backend_of_storage(storage);
    std::unique_ptr<graph_runner> & runner = runners_[backend];
    if (!runner) {
        runner = std::make_unique<graph_runner>(backend);
    }
    return *runner;
}

compress_result compressor::compress(llama_seq_id seq, const compress_options & options,
                                     const std::function<void(int, int)> & progress) {
    const auto start = std::chrono::steady_clock::now();
    tap_.disarm();
    const std::vector<cell> cells = kv_.cells(seq);
    std::vector<token_kind> kind(cells.size());
    std::transform(cells.begin(), cells.end(), kind.begin(), [](const cell & c) { return c.kind; });

    compress_result result;
    result.n_text = static_cast<int32_t>(std::count(kind.begin(), kind.end(), token_kind::text));
    result.n_image = static_cast<int32_t>(kind.size()) - result.n_text;
    // upstream compresses prompts with images only when text outranks images
    const bool all_text = options.method->prior == prior::text && result.n_image == 0;
    const budget b = make_budget(*options.method, options.ratios, options.overflow, kind);
    result.n_keep = all_text ? b.n_kv : b.n_keep();
    if (all_text || !b.evicts()) {
        result.note = why_nothing(*options.method, b, result);
        return result;
    }

    const std::vector<int32_t> target = lowest_cells(cells, b.n_keep());
    const auto n_layers = static_cast<int>(kv_.layers().size());
    for (int i = 0; i < n_layers; ++i) {
        if (progress) {
            progress(i, n_layers);
        }
        const kv_layer & layer = kv_.layers()[i];
        const int64_t n_head_kv = layer.k.n_head_kv;
        const int32_t n_evict = b.n_kv - b.n_keep();
        std::vector<int32_t> kept(n_head_kv * b.n_keep());
        std::vector<int32_t> evicted(n_head_kv * n_evict);
        select(*options.method, b, tap_.scores(i, cells), kind, kept);
        for (int64_t h = 0; h < n_head_kv; ++h) {
            complement({kept.data() + h * b.n_keep(), static_cast<size_t>(b.n_keep())},
                       {evicted.data() + h * n_evict, static_cast<size_t>(n_evict)});
        }
        const std::vector<int32_t> kept_cells = to_cells(kept, cells);
        const std::vector<int32_t> evicted_cells = to_cells(evicted, cells);
        graph_runner & runner = runner_for(layer.k.storage);
        const bool on_device = options.on_device || !runner.on_cpu() || !host_memory(layer);
        compress_layer(runner, layer, options.method->merge, {kept_cells, evicted_cells, target}, on_device);
        result.kept.push_back(std::move(kept));
    }
    if (progress) {
        progress(n_layers, n_layers);
    }
    kv_.keep(seq, target);

    result.peak_bytes = tap_.peak_bytes();
    for (const auto & [backend, runner] : runners_) {
        result.peak_bytes += runner->peak_bytes();
    }
    result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return result;
}

} // namespace lookm
