#include "lookm/cache/compressor.h"

#include "lookm/cache/cell_lists.h"
#include "lookm/core/select.h"
#include "lookm/graph/compress_forms.h"

#include <algorithm>
#include <chrono>
#include <stdexcept>

namespace lookm {

namespace {

std::string reason_for_full_cache(const method & m, const budget & b, const compress_result & r) {
    if (!m.evicts) {
        return "method origin keeps the full cache";
    }
    if (m.prior != prior::none && r.n_image == 0) {
        return "no image and no context in the prompt: method " + std::string(m.name) +
               " keeps the full cache";
    }
    return "nothing to evict: the budget of " + std::to_string(b.n_keep()) +
           " cells covers the prompt's " + std::to_string(b.n_kv);
}

// Turns pivot [n_head_kv, n_evict], indices into kept, into compress_result::merged_into of a layer
std::vector<int32_t> merged_into(std::span<const int32_t> kept, std::span<const int32_t> evicted,
                                 std::span<const int32_t> pivot, int64_t n_head_kv) {
    const size_t n_keep = kept.size() / n_head_kv, n_evict = evicted.size() / n_head_kv,
                 n_kv = n_keep + n_evict;
    std::vector<int32_t> out(n_head_kv * n_kv, -1);
    for (size_t i = 0; i < pivot.size(); ++i) {
        const size_t h = i / n_evict;
        if (pivot[i] >= 0) {
            out[h * n_kv + evicted[i]] = kept[h * n_keep + pivot[i]];
        }
    }
    return out;
}

// Counts cells by kind. A text cell that `kind` calls image belongs to a context.
cell_counts counts_of(const std::vector<cell> & cells, std::span<const token_kind> kind) {
    cell_counts out;
    for (size_t i = 0; i < cells.size(); ++i) {
        ++(cells[i].kind == token_kind::image ? out.image
           : kind[i] == token_kind::image     ? out.context
                                              : out.text);
    }
    return out;
}

// The same for the kept cells, as means over layers and heads.
cell_counts mean_counts(const std::vector<cell> & cells, std::span<const token_kind> kind,
                        const std::vector<std::vector<int32_t>> & kept, int32_t n_keep) {
    int64_t image = 0, context = 0, n = 0;
    for (const std::vector<int32_t> & layer : kept) {
        for (const int32_t c : layer) {
            const bool is_image = cells[c].kind == token_kind::image;
            image += is_image;
            context += !is_image && kind[c] == token_kind::image;
        }
        n += static_cast<int64_t>(layer.size()) / n_keep;
    }
    const auto mean = [n](int64_t total) { return static_cast<int32_t>((total + n / 2) / n); };
    return {n_keep - mean(image) - mean(context), mean(image), mean(context)};
}

// Upstream compresses prompts with images only when text outranks images.
bool keeps_all(const method & m, std::span<const token_kind> kind) {
    return m.prior != prior::none &&
           std::find(kind.begin(), kind.end(), token_kind::image) == kind.end();
}

bool host_memory(const kv_layer & layer) {
    return ggml_backend_buffer_is_host(layer.k.storage->buffer) &&
           ggml_backend_buffer_is_host(layer.v.storage->buffer);
}

} // namespace

budget budget_of(const compress_options & options, std::span<const token_kind> kind) {
    const auto n_kv = static_cast<int32_t>(kind.size());
    if (keeps_all(options.method, kind)) {
        return {n_kv, n_kv, 0};
    }
    return make_budget(options.method, options.ratios, kind, options.n_prompt);
}

bool may_evict(const compress_options & options, std::span<const token_kind> kind) {
    if (!options.automatic || keeps_all(options.method, kind)) {
        return budget_of(options, kind).evicts();
    }
    const auto_ratio & wanted = *options.automatic;
    return wanted.budget_at(options.method, wanted.floor, kind, options.n_prompt).evicts();
}

compressor::compressor(llama_context * ctx, size_t compute_bytes)
    : kv_(ctx), tap_(kv_, compute_bytes), runners_(compute_bytes),
      cpu_(kv_.cpu_backend(), compute_bytes) {}

void compressor::restrict_to(const op_gate & gate) {
    tap_.restrict_to(gate);
    runners_.restrict_to(gate);
}

matches compressor::merge_layer(const kv_layer & layer, const compress_options & options,
                                const layer_plan & plan) {
    graph_runner & runner = runners_.of(kv_.backend_of_storage(layer.k.storage));
    const bool on_device = options.on_device || !runner.on_cpu() || !host_memory(layer);
    try {
        return compress_layer(runner, layer, options.method, plan, on_device);
    } catch (const refused_op &) {
        ++n_staged_;
        return compress_staged(cpu_, layer, options.method, plan);
    }
}

void compressor::observe(const compress_options & options) {
    const budget b = budget_of(options, options.kind);
    observed_ = may_evict(options, options.kind) && needs_sums(options.method);
    squeeze_peak_ = 0;
    tap_.disarm();
    if (observed_) {
        tap_.arm({needs_squares(options.method), first_query(options.method, b, options.kind)});
    }
}

void compressor::observe_all(const compress_options & options) {
    observed_ = needs_sums(options.method);
    squeeze_peak_ = 0;
    tap_.disarm();
    if (observed_) {
        tap_.arm({needs_squares(options.method), 0});
    }
}

void compressor::observe_nothing() {
    observed_ = false;
    squeeze_peak_ = 0;
    tap_.disarm();
}

size_t compressor::peak_bytes() const {
    return tap_.bytes() + std::max(observed_ ? tap_.compute_peak() : 0, squeeze_peak_);
}

void compressor::resume() {
    if (observed_) {
        tap_.listen();
    }
}

bool compressor::covers(const compress_options & options) const {
    const budget b = budget_of(options, options.kind);
    if (!may_evict(options, options.kind) || !needs_sums(options.method)) {
        return true;
    }
    return observed_ && tap_.plan().first_query == first_query(options.method, b, options.kind) &&
           (tap_.plan().squares || !needs_squares(options.method));
}

void compressor::move(std::span<const cell_move> moves) {
    if (moves.empty()) {
        return;
    }
    kv_.settle();
    for (const kv_layer & layer : kv_.layers()) {
        move_rows(runners_.of(kv_.backend_of_storage(layer.k.storage)), cpu_, layer, moves);
    }
    runners_.clear();
    kv_.move(moves);
}

void compressor::isolate(llama_seq_id seq, int32_t n) {
    unite();
    if (!kv_.can_isolate()) {
        return;
    }
    if (const auto moves = kv_.moves_to_isolate(seq, n)) {
        move(*moves);
        kv_.isolate(seq, n);
    }
}

void compressor::unite() {
    if (kv_.can_isolate()) {
        kv_.unite();
        move(kv_.moves_to_pack());
    }
}

compressor::layer_sums compressor::sums_of(const method & m, size_t i,
                                           const std::vector<cell> & cells) const {
    layer_sums out;
    if (needs_sums(m)) {
        out.sum = tap_.scores(i, cells);
    }
    if (needs_squares(m)) {
        out.squares = tap_.squares(i, cells);
    }
    return out;
}

ranking compressor::rank_layer(const method & m, const budget & b, size_t i,
                               const layer_sums & sums, const prompt_cells & cells) const {
    return rank(m, b, sums, cells, first_query(m, b, cells.kind), kv_.layers()[i].k.n_head_kv,
                static_cast<int32_t>(i));
}

ratio_choice compressor::ratio_for(const compress_options & options, const prompt_cells & cells,
                                   const std::vector<layer_sums> & sums) const {
    std::vector<layer_attention> layers;
    for (size_t i = 0; i < sums.size(); ++i) {
        layers.push_back({sums[i], kv_.layers()[i].k.n_head_kv});
    }
    return choose_ratio(options.method, *options.automatic, cells, options.n_prompt, layers);
}

cell_counts compressor::count(llama_seq_id seq, std::span<const token_kind> kind) const {
    const std::vector<cell> cells = kv_.cells(seq);
    return counts_of(cells, kinds_of(cells, {kind.begin(), kind.end()}));
}

compress_result compressor::compress(llama_seq_id seq, const compress_options & options,
                                     const std::function<void(int, int)> & progress) {
    const auto start = std::chrono::steady_clock::now();
    kv_.check(seq);
    tap_.disarm();
    kv_.settle();
    std::vector<cell> cells = kv_.cells(seq);
    const std::vector<cell> packed(cells.begin(), cells.begin() + kv_.packed(seq).n);
    cells.erase(cells.begin(), cells.begin() + static_cast<int64_t>(packed.size()));
    const std::vector<token_kind> kind = kinds_of(cells, options.kind),
                                  source = kinds_of(cells, {});

    compress_result result;
    result.n_text = static_cast<int32_t>(std::count(kind.begin(), kind.end(), token_kind::text));
    result.n_image = static_cast<int32_t>(kind.size()) - result.n_text;
    const method & m = options.method;
    budget b = budget_of(options, kind);
    const std::vector<kv_layer> layers = kv_.layers(seq);
    std::vector<layer_sums> sums; // of all layers, where the ratio is chosen by them
    size_t sums_bytes = 0;
    if (options.automatic && may_evict(options, kind)) {
        for (size_t i = 0; i < layers.size(); ++i) {
            sums.push_back(sums_of(m, i, cells));
            sums_bytes += (sums[i].sum.size() + sums[i].squares.size()) * sizeof(float);
        }
        const ratio_choice chosen = ratio_for(options, {kind, source}, sums);
        result.chosen_ratio = chosen.ratio;
        result.attention_held = chosen.held;
        b = options.automatic->budget_at(m, chosen.ratio, kind, options.n_prompt);
    }
    result.n_keep = b.n_keep();
    if (!b.evicts()) {
        result.note = reason_for_full_cache(options.method, b, result);
        result.kept_of = counts_of(cells, kind);
        return result;
    }

    n_staged_ = 0;
    const std::vector<int32_t> target = kv_.targets(seq, b.n_keep(), packed);
    const std::vector<token_kind> kind_of_cell = by_cell(kind, cells);
    const auto n_layers = static_cast<int>(layers.size());
    held_attention held;
    for (int i = 0; i < n_layers; ++i) {
        if (progress) {
            progress(i, n_layers);
        }
        const kv_layer & layer = layers[i];
        const int64_t n_head_kv = layer.k.n_head_kv;
        const int32_t n_evict = b.n_kv - b.n_keep();
        std::vector<int32_t> kept(n_head_kv * b.n_keep());
        std::vector<int32_t> evicted(n_head_kv * n_evict);
        const layer_sums here = sums.empty() ? sums_of(m, i, cells) : std::move(sums[i]);
        ranking ranks = rank_layer(m, b, i, here, {kind, source});
        select(m, b, ranks, kind, kept);
        if (needs_sums(m)) {
            held.add(here.sum, kept, n_head_kv);
        }
        for (int64_t h = 0; h < n_head_kv; ++h) {
            complement({kept.data() + h * b.n_keep(), static_cast<size_t>(b.n_keep())},
                       {evicted.data() + h * n_evict, static_cast<size_t>(n_evict)});
        }
        const std::vector<int32_t> kept_cells = to_cells(kept, cells);
        const std::vector<int32_t> evicted_cells = to_cells(evicted, cells);
        const matches merged =
            merge_layer(layer, options, {kept_cells, evicted_cells, target, kind_of_cell});
        if (options.explain) {
            result.merged_into.push_back(merged_into(kept, evicted, merged.pivot, n_head_kv));
            result.score.push_back(std::move(ranks.score));
        }
        result.kept.push_back(std::move(kept));
    }
    if (progress) {
        progress(n_layers, n_layers);
    }
    std::vector<int32_t> stay = target;
    for (const cell & c : packed) {
        stay.push_back(c.index);
    }
    kv_.keep(seq, stay);
    result.kept_of = mean_counts(cells, kind, result.kept, b.n_keep());
    result.warning = starved(counts_of(cells, kind), result.kept_of);

    if (knows_question(m, kind)) {
        result.attention_held = held.mean();
    }

    result.score_seconds = score_seconds();
    result.n_staged = n_staged_;
    const size_t compute_peak = runners_.peak_bytes() + cpu_.peak_bytes();
    runners_.clear();
    result.peak_bytes = std::max(peak_bytes(), tap_.bytes() + sums_bytes + compute_peak);
    result.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return result;
}

} // namespace lookm
