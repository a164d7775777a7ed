#include "lookm/llama/kv_cache.h"

#include "llama-context.h"
#include "llama-kv-cache-iswa.h"
#include "llama-kv-cache.h"
#include "llama-memory-hybrid.h"
#include "llama-model.h"

#include <algorithm>
#include <cstdlib>
#include <stdexcept>
#include <typeinfo>

#if defined(__GNUG__)
#include <cxxabi.h>
#endif

namespace lookm {

namespace {

// Higher than any position of a prompt: marks the cells that are to be emptied.
constexpr llama_pos pos_dropped = 1 << 30;

std::string class_name(const llama_memory_i & memory) {
    const char * raw = typeid(memory).name();
#if defined(__GNUG__)
    int status = 0;
    char * demangled = abi::__cxa_demangle(raw, nullptr, nullptr, &status);
    std::string name = status == 0 ? demangled : raw;
    std::free(demangled);
#else
    std::string name = raw;
#endif
    for (const char * prefix : {"class ", "llama_"}) {
        if (name.rfind(prefix, 0) == 0) {
            name.erase(0, std::char_traits<char>::length(prefix));
        }
    }
    return name;
}

// The cache whose layers see every earlier token, or nullptr. Exact types: a derived cache keeps state of its own.
llama_kv_cache * full_attention_cache(llama_memory_i * memory) {
    if (!memory) {
        return nullptr;
    }
    if (typeid(*memory) == typeid(llama_kv_cache)) {
        return static_cast<llama_kv_cache *>(memory);
    }
    if (typeid(*memory) == typeid(llama_kv_cache_iswa)) {
        return static_cast<llama_kv_cache_iswa *>(memory)->get_base();
    }
    if (typeid(*memory) == typeid(llama_memory_hybrid)) {
        return static_cast<llama_memory_hybrid *>(memory)->get_mem_attn();
    }
    return nullptr;
}

// llama.cpp has no getter for V's storage: a view of one cell leads to it.
ggml_tensor * v_storage(const llama_kv_cache & kv, int32_t il, bool & transposed) {
    const ggml_context_ptr scratch{ggml_init({4 * ggml_tensor_overhead(), nullptr, /*no_alloc =*/true})};
    llama_kv_cache::slot_info one;
    one.s0 = 0;
    one.s1 = 0;
    one.strm = {0};
    one.idxs = {{0}};
    ggml_tensor * v = kv.get_v(scratch.get(), il, 1, one);
    transposed = v->nb[1] > v->nb[2];
    ggml_tensor * at = v;
    while (at->view_src) {
        at = at->view_src;
    }
    return at;
}

} // namespace

std::string kv_cache::memory_type(llama_context * ctx) {
    const llama_memory_i * memory = llama_get_memory(ctx);
    return memory ? class_name(*memory) : "none";
}

std::string kv_cache::unsupported(llama_context * ctx) {
    const llama_hparams & hparams = ctx->get_model().hparams;
    if (llama_model_has_encoder(&ctx->get_model())) {
        return "a decoder beside an encoder is not a model that continues prompts";
    }
    const llama_kv_cache * kv = full_attention_cache(llama_get_memory(ctx));
    if (!kv) {
        return "memory type " + memory_type(ctx) +
               " cannot be compressed; expected a plain KV cache, one with sliding "
               "windows, or a hybrid's attention part";
    }
    if (hparams.is_mla()) {
        return "multi-head latent attention (MLA) keeps no V rows and cannot be compressed";
    }
    if (hparams.use_alibi || hparams.f_max_alibi_bias > 0.0f) {
        return "ALiBi biases attention by cell position, which compression changes";
    }
    if (kv->get_layer_ids().empty()) {
        return "no layer of this model attends to all earlier tokens";
    }
    if (ctx->get_model().split_mode() == LLAMA_SPLIT_MODE_TENSOR) {
        return "split mode tensor spreads a layer's cache over devices";
    }
    return "";
}

kv_cache::kv_cache(llama_context * ctx) : ctx_(ctx) {
    const std::string why = unsupported(ctx);
    if (!why.empty()) {
        throw std::invalid_argument("kv_ratio: " + why + " (kv_ratio 1 runs this model uncompressed)");
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
    }
}

int32_t kv_cache::n_cells() const {
    return static_cast<int32_t>(kv_->get_size());
}

int32_t kv_cache::n_used() const {
    return static_cast<int32_t>(kv_->get_cells(0).get_used());
}

size_t kv_cache::bytes_per_cell() const {
    size_t bytes = 0;
    for (const kv_layer & l : layers_) {
        bytes += ggml_row_size(l.k.storage->type, l.k.n_head_kv * l.k.head_dim);
        bytes += ggml_row_size(l.v.storage->type, l.v.n_head_kv * l.v.head_dim);
    }
    return bytes;
}

size_t kv_cache::bytes_allocated() const {
    size_t bytes = 0;
    for (const auto & [buft, size] : llama_get_memory(ctx_)->memory_breakdown()) {
        bytes += size;
    }
    return bytes;
}

std::vector<cell> kv_cache::cells(llama_seq_id seq) const {
    const llama_kv_cells & cells = kv_->get_cells(seq);
    std::vector<cell> out;
    for (const auto & [pos, index] : cells.seq_pos_get(seq)) { // by position; cells of one image share theirs
        const bool text = cells.ext_get(index).tok != LLAMA_TOKEN_NULL;
        out.push_back({static_cast<int32_t>(index), text ? token_kind::text : token_kind::image});
    }
    return out;
}

void kv_cache::keep(llama_seq_id seq, const std::vector<int32_t> & target) {
    // The cache object itself is not const; there is no public way to relabel cells.
    auto & cells = const_cast<llama_kv_cells &>(kv_->get_cells(seq));
    const llama_pos pos_last = cells.seq_pos_max(seq);

    std::vector<bool> stays(cells.size(), false);
    for (const int32_t index : target) {
        stays[index] = true;
    }
    for (const cell & c : this->cells(seq)) {
        const auto index = static_cast<uint32_t>(c.index);
        llama_kv_cell_ext ext = cells.ext_get(index);
        ext.x = ext.y = pos_last; // M-RoPE compares these where positions are equal
        cells.rm(index);
        cells.pos_set(index, stays[index] ? pos_last : pos_dropped);
        cells.ext_set(index, ext);
        cells.seq_add(index, seq);
    }
    // through the cache's own call, which also lets the next token take the first freed cell
    kv_->seq_rm(seq, pos_dropped, -1);
}

void kv_cache::set_eval_callback(ggml_backend_sched_eval_callback callback, void * user_data) {
    // Two places: the context's parameters, read whenever a graph is rebuilt, and the scheduler, for a graph in reuse.
    auto & cparams = const_cast<llama_cparams &>(ctx_->get_cparams());
    cparams.cb_eval = callback;
    cparams.cb_eval_user_data = user_data;
    ggml_backend_sched_set_eval_callback(ctx_->get_sched(), callback, user_data);
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
    throw std::runtime_error(std::string("KV compression: no backend for buffer ") + ggml_backend_buft_name(buft));
}

} // namespace lookm
