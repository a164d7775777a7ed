#include "random_model.h"

#include "ggml-backend.h"
#include "ggml-cpp.h"
#include "gguf.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <stdexcept>
#include <vector>

namespace {

struct weights {
    uint32_t seed;
};

// Norms are near 1, and matrices are scaled by 1/sqrt(fan in), so that attention is neither flat
// nor one-hot.
void fill(ggml_tensor * tensor, void * user_data) {
    const std::string name = tensor->name;
    std::mt19937 generator(static_cast<uint32_t>(std::hash<std::string>()(name)) ^
                           static_cast<weights *>(user_data)->seed);
    const bool norm = name.find("norm") != std::string::npos;
    const float sigma = norm ? 0.1f : 1.0f / std::sqrt(static_cast<float>(tensor->ne[0]));
    std::normal_distribution<float> normal(norm ? 1.0f : 0.0f, sigma);
    std::vector<float> values(ggml_nelements(tensor));
    for (float & v : values) {
        v = normal(generator);
    }
    if (name.find("ssm_a") !=
        std::string::npos) { // the decay of a recurrent state must be negative
        std::for_each(values.begin(), values.end(), [](float & v) { v = -1.0f - std::abs(v); });
    }
    std::vector<uint8_t> bytes(ggml_nbytes(tensor));
    ggml_quantize_chunk(tensor->type, values.data(), bytes.data(), 0, ggml_nrows(tensor),
                        tensor->ne[0], nullptr);
    ggml_backend_tensor_set(tensor, bytes.data(), 0, bytes.size());
}

void set_value(gguf_context * gguf, const std::string & name, const metadata_value & value) {
    const char * key = name.c_str();
    if (const auto * b = std::get_if<bool>(&value)) {
        gguf_set_val_bool(gguf, key, *b);
    } else if (const auto * i = std::get_if<int64_t>(&value)) {
        gguf_set_val_u32(gguf, key, static_cast<uint32_t>(*i));
    } else if (const auto * f = std::get_if<double>(&value)) {
        gguf_set_val_f32(gguf, key, static_cast<float>(*f));
    } else if (const auto * s = std::get_if<std::string>(&value)) {
        gguf_set_val_str(gguf, key, s->c_str());
    } else if (const auto * is = std::get_if<std::vector<int32_t>>(&value)) {
        gguf_set_arr_data(gguf, key, GGUF_TYPE_INT32, is->data(), is->size());
    } else {
        const auto & fs = std::get<std::vector<float>>(value);
        gguf_set_arr_data(gguf, key, GGUF_TYPE_FLOAT32, fs.data(), fs.size());
    }
}

ggml_type parse_type(const std::string & name) {
    for (const ggml_type t : {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_0}) {
        if (name == ggml_type_name(t)) {
            return t;
        }
    }
    throw std::invalid_argument("weight: unknown type " + name);
}

} // namespace

llama_model_ptr random_model(const random_model_options & o) {
    const int32_t n_embd = o.n_head * o.head_dim;
    const std::unique_ptr<gguf_context, decltype(&gguf_free)> gguf(gguf_init_empty(), gguf_free);
    const auto u32 = [&](const char * key, int32_t value) {
        gguf_set_val_u32(gguf.get(), (o.arch + "." + key).c_str(), static_cast<uint32_t>(value));
    };
    gguf_set_val_str(gguf.get(), "general.architecture", o.arch.c_str());
    u32("vocab_size", o.n_vocab);
    u32("context_length", o.n_ctx);
    u32("embedding_length", n_embd);
    u32("block_count", o.n_layer);
    u32("feed_forward_length", 2 * n_embd);
    u32("attention.head_count", o.n_head);
    u32("attention.head_count_kv", o.n_head_kv);
    u32("attention.key_length", o.head_dim);
    u32("attention.value_length", o.head_dim);
    gguf_set_val_f32(gguf.get(), (o.arch + ".attention.layer_norm_rms_epsilon").c_str(), 1e-5f);
    for (const auto & [key, value] : o.metadata) {
        set_value(gguf.get(), o.arch + "." + key, value);
    }
    gguf_set_val_str(gguf.get(), "tokenizer.ggml.model", "test");
    std::vector<std::string> tokens;
    std::vector<const char *> pointers;
    for (int32_t i = 0; i < o.n_vocab; ++i) {
        tokens.push_back("tok_" + std::to_string(i));
    }
    for (const std::string & t : tokens) {
        pointers.push_back(t.c_str());
    }
    const std::vector<float> scores(o.n_vocab, 0.0f);
    gguf_set_arr_str(gguf.get(), "tokenizer.ggml.tokens", pointers.data(), pointers.size());
    gguf_set_arr_data(gguf.get(), "tokenizer.ggml.scores", GGUF_TYPE_FLOAT32, scores.data(),
                      scores.size());

    // Matrices are f32 unless the metadata lists a tensor of that name with another type.
    const ggml_type type = parse_type(o.weight);
    const ggml_context_ptr shapes{
        ggml_init({size_t(16 * o.n_layer + 16) * ggml_tensor_overhead(), nullptr, true})};
    if (type != GGML_TYPE_F32) {
        const int64_t n_kv = o.n_head_kv * o.head_dim;
        for (int32_t il = 0; il < o.n_layer; ++il) {
            const auto matrix = [&](const char * name, int64_t in, int64_t out) {
                ggml_tensor * t = ggml_new_tensor_2d(shapes.get(), type, in, out);
                ggml_format_name(t, "blk.%d.%s.weight", il, name);
                gguf_add_tensor(gguf.get(), t);
            };
            matrix("attn_q", n_embd, n_embd);
            matrix("attn_k", n_embd, n_kv);
            matrix("attn_v", n_embd, n_kv);
            matrix("attn_output", n_embd, n_embd);
            matrix("ffn_gate", n_embd, 2 * n_embd);
            matrix("ffn_up", n_embd, 2 * n_embd);
            matrix("ffn_down", 2 * n_embd, n_embd);
        }
    }

    llama_model_params params = llama_model_default_params();
    params.progress_callback = [](float, void *) { return true; };
    params.devices = o.devices;
    params.n_gpu_layers = o.n_gpu_layers;
    ggml_backend_dev_t cpu_alone[] = {ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU),
                                      nullptr};
    if (o.split_tensors) {
        params.devices = cpu_alone;
        params.split_mode = LLAMA_SPLIT_MODE_TENSOR;
    }
    weights w{o.seed};
    llama_model_ptr model{llama_model_init_from_user(gguf.get(), fill, &w, params)};
    if (!model) {
        throw std::runtime_error("cannot make a random model of architecture " + o.arch);
    }
    return model;
}
