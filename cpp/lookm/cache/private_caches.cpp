#include "lookm/cache/private_caches.h"

#include <typeinfo>

namespace lookm {

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

// There is no getter, but C++ allows to name a private member in an explicit instantiation.
std::vector<uint32_t> & opened_heads(llama_kv_cache & kv);
template <auto heads>
struct opened {
    friend std::vector<uint32_t> & opened_heads(llama_kv_cache & kv) { return kv.*heads; }
};
template struct opened<&llama_kv_cache::v_heads>;

std::vector<uint32_t> & heads_of(llama_kv_cache & kv) {
    return opened_heads(kv);
}

ggml_tensor * v_storage(const llama_kv_cache & kv, int32_t il, bool & transposed) {
    const ggml_context_ptr scratch{
        ggml_init({4 * ggml_tensor_overhead(), nullptr, /*no_alloc =*/true})};
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

} // namespace lookm
