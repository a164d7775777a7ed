#include "lookm/files/gguf_header.h"

#include <algorithm>

namespace lookm {

gguf_header::gguf_header(const std::vector<std::string> & parts) {
    for (const std::string & part : parts) {
        ggml_context * shapes = nullptr;
        gguf_context_ptr gguf(gguf_init_from_file(part.c_str(), {/*no_alloc =*/true, &shapes}));
        const ggml_context_ptr owner(shapes);
        if (!gguf) {
            continue;
        }
        for (ggml_tensor * t = ggml_get_first_tensor(shapes); t;
             t = ggml_get_next_tensor(shapes, t)) {
            tensor & copy = tensors_[t->name];
            copy.type = t->type;
            copy.n_dims = ggml_n_dims(t);
            std::copy_n(t->ne, GGML_MAX_DIMS, copy.shape);
        }
        if (!keys_) {
            keys_ = std::move(gguf);
        }
    }
}

int64_t gguf_header::find(const std::string & key) const {
    return keys_ ? gguf_find_key(keys_.get(), key.c_str()) : -1;
}

std::optional<gguf_type> gguf_header::type(const std::string & key) const {
    const int64_t id = find(key);
    return id < 0 ? std::nullopt : std::optional(gguf_get_kv_type(keys_.get(), id));
}

std::string gguf_header::type_name(const std::string & key) const {
    const std::optional<gguf_type> found = type(key);
    const char * name = found ? gguf_type_name(*found) : nullptr;
    return name ? name : "missing";
}

std::optional<uint32_t> gguf_header::u32(const std::string & key) const {
    return is(key, GGUF_TYPE_UINT32) ? std::optional(gguf_get_val_u32(keys_.get(), find(key)))
                                     : std::nullopt;
}

std::optional<float> gguf_header::f32(const std::string & key) const {
    return is(key, GGUF_TYPE_FLOAT32) ? std::optional(gguf_get_val_f32(keys_.get(), find(key)))
                                      : std::nullopt;
}

std::optional<std::string> gguf_header::text(const std::string & key) const {
    return is(key, GGUF_TYPE_STRING)
               ? std::optional<std::string>(gguf_get_val_str(keys_.get(), find(key)))
               : std::nullopt;
}

std::vector<const char *> gguf_header::texts(const std::string & key) const {
    const int64_t id = find(key);
    std::vector<const char *> list;
    if (is(key, GGUF_TYPE_ARRAY) && gguf_get_arr_type(keys_.get(), id) == GGUF_TYPE_STRING) {
        list.resize(gguf_get_arr_n(keys_.get(), id));
        for (size_t i = 0; i < list.size(); ++i) {
            list[i] = gguf_get_arr_str(keys_.get(), id, i);
        }
    }
    return list;
}

const gguf_header::tensor * gguf_header::find_tensor(const std::string & name) const {
    const auto found = tensors_.find(name);
    return found == tensors_.end() ? nullptr : &found->second;
}

} // namespace lookm
