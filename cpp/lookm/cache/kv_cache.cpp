#include "lookm/cache/private_caches.h"

#include "lookm/core/bad_argument.h"

#include <algorithm>
#include <iterator>
#include <stdexcept>
#include <string>
#include <tuple>
#include <typeinfo>
#include <utility>

namespace lookm {

namespace {

// Above any position of a prompt; marks cells that are about to be emptied.
constexpr llama_pos pos_dropped = 1 << 30;

// Number of layers that attend to this K: its own layer, and layers without a cache that llama.cpp
// has pointed to it. Layers with sliding windows are pointed to the windows' cache, so they do not
// count.
int count_readers(const llama_kv_cache & kv, const llama_hparams & hparams, const ggml_tensor * k) {
    int n = 1;
    for (uint32_t il = 0; il < hparams.n_layer(); ++il) {
        if (!hparams.has_kv(il) && !hparams.is_swa(il) &&
            kv.get_k_storage(static_cast<int32_t>(il)) == k) {
            ++n;
        }
    }
    return n;
}

} // namespace

kv_cache::~kv_cache() = default;

kv_cache::kv_cache(llama_context * ctx) : ctx_(ctx) {
    const std::string why = unsupported(ctx);
    if (!why.empty()) {
        throw bad_argument("kv_ratio", why + " (kv_ratio 1 runs this model uncompressed)");
    }
    kv_ = full_attention_cache(llama_get_memory(ctx));
    const llama_hparams & hparams = ctx->get_model().hparams;
    const int64_t n_cells = kv_->get_size();
    for (const uint32_t id : kv_->get_layer_ids()) {
        const auto il = static_cast<int32_t>(id);
        bool transposed = false;
        ggml_tensor * k = kv_->get_k_storage(il);
        ggml_tensor * v = v_storage(*kv_, il, transposed);
        const int64_t n_h = hparams.n_head_kv(id);
        layers_.push_back({il,
                           {k, 0, n_cells, n_h, hparams.n_embd_head_k(id), false},
                           {v, 0, n_cells, n_h, hparams.n_embd_head_v(id), transposed}});
        n_readers_.push_back(count_readers(*kv_, hparams, k));
    }
}

int32_t kv_cache::n_cells() const {
    return static_cast<int32_t>(kv_->get_size());
}

std::vector<kv_layer> kv_cache::layers(llama_seq_id seq) const {
    std::vector<kv_layer> out = layers_;
    for (kv_layer & l : out) {
        l.k.offset = kv_->get_stream(seq) * l.k.storage->nb[2];
        l.v.offset = kv_->get_stream(seq) * l.v.storage->nb[2];
    }
    return out;
}

int32_t kv_cache::n_used_by(llama_seq_id seq) const {
    return static_cast<int32_t>(kv_->get_cells(seq).seq_pos_get(seq).size());
}

int32_t kv_cache::n_used_alone_by(llama_seq_id seq) const {
    const llama_kv_cells & cells = kv_->get_cells(seq);
    const auto & own = cells.seq_pos_get(seq);
    return static_cast<int32_t>(std::count_if(own.begin(), own.end(), [&cells](const auto & cell) {
        return cells.seq_count(cell.second) == 1;
    }));
}

int32_t kv_cache::n_used() const {
    uint32_t n = 0;
    for (uint32_t s = 0; s < kv_->get_n_stream(); ++s) { // stream s belongs to sequence s
        n += kv_->get_cells(static_cast<llama_seq_id>(s)).get_used();
    }
    if (isolated_) {
        n -= static_cast<uint32_t>(kv_->get_cells(0).seq_pos_get(seq_held).size());
    }
    return static_cast<int32_t>(n);
}

void kv_cache::settle() {
    ctx_->memory_update(false);
    ctx_->synchronize();
}

void kv_cache::check(llama_seq_id seq) const {
    const auto n =
        static_cast<llama_seq_id>(kv_->get_n_stream() > 1 ? kv_->get_n_stream() : LLAMA_MAX_SEQ);
    if (seq < 0 || seq >= n) {
        throw bad_argument("seq",
                           std::to_string(seq) + " is outside [0, " + std::to_string(n - 1) + "]");
    }
}

int32_t kv_cache::stream_of(llama_seq_id seq) const {
    return static_cast<int32_t>(kv_->get_stream(seq));
}

std::vector<cell> kv_cache::cells(llama_seq_id seq) const {
    return last_cells(seq, kv_->get_cells(seq).seq_pos_get(seq).size());
}

std::vector<cell> kv_cache::last_cells(llama_seq_id seq, size_t n) const {
    const llama_kv_cells & cells = kv_->get_cells(seq);
    const int32_t stream = stream_of(seq);
    const auto & by_pos = cells.seq_pos_get(seq);
    auto first = std::prev(by_pos.end(), static_cast<ptrdiff_t>(n));
    while (first != by_pos.begin() && first != by_pos.end() &&
           std::prev(first)->first == first->first) {
        --first;
    }
    // The cells of an image may share a position: they are ordered by their place in the image,
    // then by cell, as llama.cpp fills free cells upwards.
    std::vector<std::pair<llama_pos, uint32_t>> order(first, by_pos.end());
    std::stable_sort(order.begin(), order.end(), [&](const auto & a, const auto & b) {
        const llama_kv_cell_ext x = cells.ext_get(a.second), y = cells.ext_get(b.second);
        return std::tie(a.first, x.y, x.x) < std::tie(b.first, y.y, y.x);
    });
    std::vector<cell> out;
    for (auto at = order.end() - static_cast<ptrdiff_t>(n); at != order.end(); ++at) {
        const bool text = cells.ext_get(at->second).tok != LLAMA_TOKEN_NULL;
        out.push_back({static_cast<int32_t>(at->second),
                       text ? token_kind::text : token_kind::image, stream});
    }
    return out;
}

void kv_cache::restore_kinds(llama_seq_id seq, std::span<const token_kind> kind) {
    if (const int32_t n = n_used_by(seq); n != static_cast<int32_t>(kind.size())) {
        throw std::logic_error(std::to_string(kind.size()) + " kinds for " + std::to_string(n) +
                               " cells");
    }
    set_last_kinds(seq, kind);
}

void kv_cache::set_last_kinds(llama_seq_id seq, std::span<const token_kind> kind) {
    auto & cells = const_cast<llama_kv_cells &>(kv_->get_cells(seq)); // as in keep()
    const std::vector<cell> here = last_cells(seq, kind.size());
    for (size_t i = 0; i < here.size(); ++i) {
        if (here[i].kind != kind[i]) {
            llama_kv_cell_ext ext = cells.ext_get(here[i].index);
            ext.tok = kind[i] == token_kind::image ? LLAMA_TOKEN_NULL : 0;
            cells.ext_set(here[i].index, ext);
        }
    }
}

std::vector<int32_t> kv_cache::targets(llama_seq_id seq, int32_t n,
                                       std::span<const cell> excluded) const {
    const llama_kv_cells & cells = kv_->get_cells(seq);
    std::vector<bool> taken(cells.size(), false);
    for (const cell & c : excluded) {
        taken[c.index] = true;
    }
    std::vector<int32_t> out;
    for (uint32_t i = 0; i < cells.size() && static_cast<int32_t>(out.size()) < n; ++i) {
        if (!taken[i] &&
            (cells.is_empty(i) || (cells.seq_has(i, seq) && cells.seq_count(i) == 1))) {
            out.push_back(static_cast<int32_t>(i));
        }
    }
    if (static_cast<int32_t>(out.size()) < n) {
        throw std::runtime_error(
            "KV compression: sequence " + std::to_string(seq) + " shares cells with others, so " +
            std::to_string(n) + " kept rows need cells of its own, but the cache of " +
            std::to_string(cells.size()) + " has room for " + std::to_string(out.size()));
    }
    return out;
}

packed_cells kv_cache::packed(llama_seq_id seq) const {
    // a sequence starts at position 0 unless keep() has moved its cells to the last one
    packed_cells out;
    const auto & own = kv_->get_cells(seq).seq_pos_get(seq);
    for (const auto & [pos, index] : own) {
        if (pos == 0 || (out.n > 0 && pos != out.pos)) {
            break;
        }
        out.pos = pos;
        ++out.n;
    }
    const auto found = in_groups_.find(seq);
    if (found == in_groups_.end() || found->second.first != out.pos ||
        static_cast<int32_t>(own.size()) < found->second.n) {
        return out;
    }
    // is it still what keep() has left, or something else by now?
    const in_groups & groups = found->second;
    const auto last = std::next(own.begin(), groups.n - 1);
    const auto after = std::next(last);
    const bool is = last->first == groups.pos && (after == own.end() || after->first > groups.pos);
    return is ? packed_cells{groups.pos, groups.n} : out;
}

void kv_cache::keep(llama_seq_id seq, const std::vector<int32_t> & target) {
    // There is no public way to relabel cells; the const_cast is safe, as the object is not const.
    auto & cells = const_cast<llama_kv_cells &>(kv_->get_cells(seq));
    const llama_pos pos_last = cells.seq_pos_max(seq);
    const auto put = [&](uint32_t index, llama_pos pos, llama_kv_cell_ext ext) {
        ext.x = ext.y = pos_last; // M-RoPE compares these if positions are equal
        cells.pos_set(index, pos);
        cells.ext_set(index, ext);
        cells.seq_add(index, seq);
    };

    std::vector<bool> stays(cells.size(), false);
    for (const int32_t index : target) {
        stays[index] = true;
    }
    std::vector<llama_kv_cell_ext> ext;
    std::optional<llama_pos> first_shared;
    for (const cell & c : this->cells(seq)) {
        ext.push_back(cells.ext_get(c.index));
        if (stays[c.index] && cells.seq_count(c.index) > 1) {
            first_shared = first_shared.value_or(cells.pos_get(c.index));
            continue;
        }
        // false if another sequence shares the cell
        const bool emptied = cells.seq_rm(c.index, seq);
        if (emptied && !stays[c.index]) {
            put(c.index, pos_dropped, {});
        }
    }
    for (size_t r = 0; r < target.size(); ++r) {
        if (cells.is_empty(target[r])) {
            put(target[r], pos_last, ext[r]);
        }
    }
    in_groups_.erase(seq);
    if (first_shared) {
        in_groups_[seq] = {*first_shared, pos_last, static_cast<int32_t>(target.size())};
    }
    // through the cache's own function, which also makes the next token take the first freed cell
    kv_->seq_rm(seq, pos_dropped, -1);
}

void kv_cache::shrink(llama_seq_id seq, std::span<const int32_t> indices, size_t n_keep) {
    auto & cells = const_cast<llama_kv_cells &>(kv_->get_cells(seq));
    llama_pos pos_last = 0;
    for (const int32_t index : indices) {
        pos_last = std::max(pos_last, cells.pos_get(index));
    }
    for (size_t r = 0; r < indices.size(); ++r) {
        llama_kv_cell_ext ext = cells.ext_get(indices[r]);
        ext.x = ext.y = pos_last; // not later than any cell of an image that is still being read
        cells.seq_rm(indices[r], seq);
        cells.pos_set(indices[r], r < n_keep ? pos_last : pos_dropped);
        cells.ext_set(indices[r], ext);
        cells.seq_add(indices[r], seq);
    }
    kv_->seq_rm(seq, pos_dropped, -1);
}

void kv_cache::forget(llama_context * ctx, llama_seq_id seq, llama_pos p0, llama_pos p1) {
    if (llama_kv_cache * kv = full_attention_cache(llama_get_memory(ctx))) {
        kv->seq_rm(seq, p0, p1);
    }
}

kv_cache::eval_hook kv_cache::eval_callback(const llama_context * ctx) {
    return {ctx->get_cparams().cb_eval, ctx->get_cparams().cb_eval_user_data};
}

void kv_cache::set_eval_callback(llama_context * ctx, ggml_backend_sched_eval_callback callback,
                                 void * user_data) {
    // In two places: the context's parameters, which are read when a graph is rebuilt, and the
    // scheduler, for a graph that is reused.
    auto & cparams = const_cast<llama_cparams &>(ctx->get_cparams());
    cparams.cb_eval = callback;
    cparams.cb_eval_user_data = user_data;
    ggml_backend_sched_set_eval_callback(ctx->get_sched(), callback, user_data);
}

std::vector<llama_pos> kv_cache::positions(llama_context * ctx, llama_seq_id seq) {
    std::vector<llama_pos> out;
    if (const llama_kv_cache * kv = full_attention_cache(llama_get_memory(ctx))) {
        for (const auto & [pos, index] : kv->get_cells(seq).seq_pos_get(seq)) {
            out.push_back(pos);
        }
    }
    std::sort(out.begin(), out.end());
    return out;
}

bool kv_cache::can_set_positions(llama_context * ctx) {
    return full_attention_cache(llama_get_memory(ctx)) != nullptr;
}

void kv_cache::set_positions(llama_context * ctx, llama_seq_id seq, llama_pos first,
                             std::span<const llama_pos> positions) {
    llama_memory_i * const memory = llama_get_memory(ctx);
    std::vector<llama_kv_cache *> caches = {full_attention_cache(memory)};
    if (typeid(*memory) == typeid(llama_kv_cache_iswa)) {
        caches.push_back(static_cast<llama_kv_cache_iswa *>(memory)->get_swa());
    }
    std::vector<std::vector<uint32_t>> heads;
    for (llama_kv_cache * kv : caches) {
        heads.push_back(heads_of(*kv));
    }
    // from the last one, so that no two have the same position in between
    for (auto end = static_cast<llama_pos>(positions.size()); end > 0;) {
        const llama_pos by = positions[end - 1] - (first + end - 1);
        llama_pos begin = end - 1;
        while (begin > 0 && positions[begin - 1] - (first + begin - 1) == by) {
            --begin;
        }
        llama_memory_seq_add(memory, seq, first + begin, first + end, by);
        end = begin;
    }
    for (size_t i = 0; i < caches.size(); ++i) {
        // the keys are rotated by these positions already
        const_cast<llama_kv_cells &>(caches[i]->get_cells(seq)).reset_shift();
        heads_of(*caches[i]) = heads[i];
    }
}

ggml_backend_t kv_cache::backend_of(ggml_tensor * node) const {
    return ggml_backend_sched_get_tensor_backend(ctx_->get_sched(), node);
}

ggml_backend_t kv_cache::backend_of_storage(const ggml_tensor * storage) const {
    ggml_backend_sched_t sched = ctx_->get_sched();
    const ggml_backend_buffer_type_t buft = ggml_backend_buffer_get_type(storage->buffer);
    for (int i = 0; i < ggml_backend_sched_get_n_backends(sched); ++i) {
        ggml_backend_t backend = ggml_backend_sched_get_backend(sched, i);
        if (ggml_backend_supports_buft(backend, buft)) {
            return backend;
        }
    }
    throw std::runtime_error(std::string("KV compression: no backend for buffer ") +
                             ggml_backend_buft_name(buft));
}

ggml_backend_t kv_cache::cpu_backend() const {
    ggml_backend_sched_t sched = ctx_->get_sched();
    // the CPU is always the last backend
    return ggml_backend_sched_get_backend(sched, ggml_backend_sched_get_n_backends(sched) - 1);
}

} // namespace lookm
