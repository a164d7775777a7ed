// What a context's memory is, and how many bytes it takes.

#include "lookm/cache/private_caches.h"

#include "lookm/core/bad_argument.h"
#include "lookm/host/memory_room.h"

#include <algorithm>
#include <cstdlib>
#include <string>
#include <typeinfo>

#if defined(__GNUG__)
#include <cxxabi.h>
#endif

namespace lookm {

namespace {

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

} // namespace

std::string kv_cache::memory_type(llama_context * ctx) {
    const llama_memory_i * memory = llama_get_memory(ctx);
    return memory ? class_name(*memory) : "none";
}

std::string kv_cache::unsupported(llama_context * ctx) {
    const llama_hparams & hparams = ctx->get_model().hparams;
    if (llama_model_has_encoder(&ctx->get_model())) {
        return "a model with an encoder and a decoder does not continue prompts";
    }
    const llama_kv_cache * kv = full_attention_cache(llama_get_memory(ctx));
    if (!kv) {
        return "memory type " + memory_type(ctx) +
               " cannot be compressed; expected a plain KV cache, one with sliding "
               "windows, or a hybrid's attention part";
    }
    if (ctx->get_cparams().ctx_other) {
        return "its cache is shared with another context, which compression would change";
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

size_t kv_cache::bytes_per_token(llama_context * ctx) {
    const llama_kv_cache * kv = full_attention_cache(llama_get_memory(ctx));
    const llama_hparams & hparams = ctx->get_model().hparams;
    size_t bytes = 0;
    for (const uint32_t il : kv ? kv->get_layer_ids() : std::vector<uint32_t>()) {
        bytes += ggml_row_size(kv->type_k(), hparams.n_embd_k_gqa(il));
        // ne[0], as a transposed V has as many rows in each layer as the widest layer needs
        if (!hparams.is_mla()) {
            bool transposed = false;
            bytes += ggml_row_size(kv->type_v(),
                                   v_storage(*kv, static_cast<int32_t>(il), transposed)->ne[0]);
        }
    }
    return bytes;
}

void kv_cache::check_types(const llama_model * model, ggml_type type_k, ggml_type type_v,
                           const char * k, const char * v) {
    const auto check = [&](const char * argument, ggml_type type, uint32_t head_dim) {
        if (head_dim % ggml_blck_size(type) != 0) {
            throw bad_argument(argument,
                               std::string("\"") + ggml_type_name(type) + "\" stores blocks of " +
                                   std::to_string(ggml_blck_size(type)) +
                                   " numbers, but a head of this model has " +
                                   std::to_string(head_dim) + "; expected f32, f16 or bf16");
        }
    };
    for (uint32_t il = 0; il < model->hparams.n_layer(); ++il) {
        check(k, type_k, model->hparams.n_embd_head_k(il));
        check(v, type_v, model->hparams.n_embd_head_v(il));
    }
}

std::vector<cache_form> kv_cache::forms(llama_context * ctx) {
    llama_memory_i * memory = llama_get_memory(ctx);
    std::vector<const llama_kv_cache *> caches;
    if (const llama_kv_cache * kv = full_attention_cache(memory)) {
        caches.push_back(kv);
    }
    if (const auto * windows = dynamic_cast<llama_kv_cache_iswa *>(memory)) {
        caches.push_back(windows->get_swa());
    }
    const ggml_context_ptr scratch{
        ggml_init({8 * ggml_tensor_overhead(), nullptr, /*no_alloc =*/true})};
    const auto size = [](const ggml_tensor * t) { return t ? static_cast<int32_t>(t->ne[0]) : 0; };
    std::vector<cache_form> out;
    for (const llama_kv_cache * kv : caches) {
        const std::vector<uint32_t> ids = kv->get_layer_ids();
        cache_form form;
        // a cache without rows has no types; the rest is the same in all caches of a memory
        if (ids.empty()) {
            form.v_transposed = out.front().v_transposed;
        } else {
            form.type_k = kv->type_k();
            form.type_v = kv->type_v();
            v_storage(*kv, static_cast<int32_t>(ids.front()), form.v_transposed);
        }
        form.rotation_k = size(kv->build_input_k_rot(scratch.get()));
        form.rotation_v = size(kv->build_input_v_rot(scratch.get()));
        form.cell_bytes = kv->has_cell_ext() ? static_cast<int32_t>(sizeof(llama_kv_cell_ext)) : 0;
        out.push_back(form);
    }
    return out;
}

std::optional<int32_t> kv_cache::cells_in_use(llama_context * ctx) {
    llama_memory_i * memory = llama_get_memory(ctx);
    const llama_kv_cache * kv = full_attention_cache(memory);
    if (!kv) {
        return std::nullopt;
    }
    uint32_t n = kv->get_cells(0).get_used();
    if (const auto * windows = dynamic_cast<llama_kv_cache_iswa *>(memory)) {
        // cells that have left the window stay in use until they are overwritten
        n = std::max(n, std::min(windows->get_swa()->get_cells(0).get_used(),
                                 ctx->get_model().hparams.n_swa));
    }
    return static_cast<int32_t>(n);
}

int32_t kv_cache::window_cells(llama_context * ctx) {
    const auto * windows = dynamic_cast<llama_kv_cache_iswa *>(llama_get_memory(ctx));
    return windows ? static_cast<int32_t>(windows->get_swa()->get_size()) : 0;
}

bool kv_cache::size_changes_rope(llama_context * ctx) {
    const auto & layers = ctx->get_model().layers;
    return std::any_of(layers.begin(), layers.end(),
                       [](const llama_layer & l) { return l.rope_long != nullptr; });
}

size_t kv_cache::bytes_allocated(llama_context * ctx) {
    size_t bytes = 0;
    for (const auto & [buft, size] : llama_get_memory(ctx)->memory_breakdown()) {
        bytes += size;
    }
    return bytes;
}

context_bytes kv_cache::bytes_by_use(llama_context * ctx) {
    context_bytes out;
    for (const auto & [buft, bytes] : ctx->memory_breakdown()) {
        out.weights += bytes.model;
        out.cells += bytes.context;
        out.compute += bytes.compute;
    }
    return out;
}

host_bytes kv_cache::bytes_on_host(llama_context * ctx) {
    host_bytes out;
    for (const auto & [buft, bytes] : ctx->memory_breakdown()) {
        ggml_backend_dev_t device = ggml_backend_buft_get_device(buft);
        if (device && ggml_backend_dev_type(device) != GGML_BACKEND_DEVICE_TYPE_CPU) {
            continue;
        }
        const bool as_in_file = buft == ggml_backend_cpu_buffer_type();
        (as_in_file ? out.mapped : out.taken) += bytes.model;
        out.taken += bytes.context + bytes.compute;
    }
    return out;
}

uint64_t kv_cache::graph_tables_of(const llama_context * ctx) {
    return graph_tables(ctx->graph_max_nodes(std::min(llama_n_ubatch(ctx), llama_n_ctx(ctx))));
}

} // namespace lookm
