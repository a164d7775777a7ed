#include "oracle_context.h"

#include <cstdio>
#include <cstring>
#include <random>
#include <stdexcept>

namespace {

llama_context_ptr make(llama_model * model, int32_t n_ctx, int32_t n_ubatch, bool flash_attn, ggml_type type_k,
                       ggml_type type_v, int32_t n_threads) {
    llama_context_params params = llama_context_default_params();
    params.n_ctx = n_ctx;
    params.n_batch = std::max(n_ctx, n_ubatch);
    params.n_ubatch = n_ubatch;
    params.n_threads = n_threads;
    params.n_threads_batch = n_threads;
    params.flash_attn_type = flash_attn ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
    params.type_k = type_k;
    params.type_v = type_v;
    llama_context_ptr ctx{llama_init_from_model(model, params)};
    if (!ctx) {
        throw std::runtime_error("cannot make a context");
    }
    return ctx;
}

} // namespace

oracle_context::oracle_context(llama_model * model, int32_t n_ctx, int32_t n_ubatch, bool flash_attn, ggml_type type_k,
                               ggml_type type_v, int32_t n_threads)
    : ctx_(make(model, n_ctx, n_ubatch, flash_attn, type_k, type_v, n_threads)), compressor_(ctx_.get()),
      n_embd_(llama_model_n_embd(model)), n_vocab_(llama_vocab_n_tokens(llama_model_get_vocab(model))) {}

void oracle_context::run(const int32_t * tokens, int32_t n, bool last) {
    const bool image = tokens[0] < 0;
    llama_batch batch = llama_batch_init(n, image ? n_embd_ : 0, 1);
    batch.n_tokens = n;
    for (int32_t i = 0; i < n; ++i) {
        if (image) {
            std::mt19937 generator(static_cast<uint32_t>(-tokens[i]));
            std::normal_distribution<float> normal;
            for (int32_t e = 0; e < n_embd_; ++e) {
                batch.embd[i * n_embd_ + e] = normal(generator);
            }
        } else {
            batch.token[i] = tokens[i];
        }
        batch.pos[i] = n_past_ + i;
        batch.n_seq_id[i] = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i] = last && i + 1 == n;
    }
    const int32_t status = llama_decode(ctx_.get(), batch);
    llama_batch_free(batch);
    compressor_.tap().rethrow();
    if (status != 0) {
        throw std::runtime_error("llama_decode: status " + std::to_string(status));
    }
    n_past_ += n;
}

std::vector<float> oracle_context::prefill(const std::vector<int32_t> & tokens, bool scored) {
    llama_memory_clear(llama_get_memory(ctx_.get()), true);
    n_past_ = 0;
    if (scored) {
        compressor_.tap().arm();
    }
    for (size_t i = 0; i < tokens.size();) {
        size_t end = i + 1;
        while (end < tokens.size() && (tokens[end] < 0) == (tokens[i] < 0)) {
            ++end;
        }
        run(tokens.data() + i, static_cast<int32_t>(end - i), end == tokens.size());
        i = end;
    }
    llama_synchronize(ctx_.get());
    const float * logits = llama_get_logits_ith(ctx_.get(), -1);
    return {logits, logits + n_vocab_};
}

std::vector<float> oracle_context::decode(int32_t token) {
    run(&token, 1, true);
    const float * logits = llama_get_logits_ith(ctx_.get(), -1);
    return {logits, logits + n_vocab_};
}

lookm::compress_result oracle_context::compress(const lookm::compress_options & options) {
    return compressor_.compress(0, options);
}

std::vector<float> oracle_context::scores(int32_t layer) const {
    return compressor_.tap().scores(layer, compressor_.kv().cells(0));
}

void oracle_context::mask(std::vector<std::vector<int32_t>> kept, int32_t n_prompt) {
    compressor_.tap().disarm();
    kept_ = std::move(kept);
    n_masked_prompt_ = n_prompt;
    compressor_.kv().set_eval_callback(on_node, this);
}

bool oracle_context::on_node(ggml_tensor * node, bool ask, void * self) {
    auto & oracle = *static_cast<oracle_context *>(self);
    int il = -1;
    const bool softmax = node->op == GGML_OP_SOFT_MAX && std::sscanf(node->name, "kq_soft_max-%d", &il) == 1;
    if (ask || !softmax) {
        return softmax || !ask;
    }
    oracle.last_n_kv_ = static_cast<int32_t>(node->ne[0]);
    const auto & layers = oracle.compressor_.kv().layers();
    for (size_t l = 0; l < oracle.kept_.size(); ++l) {
        if (layers[l].il != il) {
            continue;
        }
        const int64_t n_head_kv = layers[l].k.n_head_kv;
        const int64_t n_group = node->ne[2] / n_head_kv;
        const int64_t n_keep = static_cast<int64_t>(oracle.kept_[l].size()) / n_head_kv;
        for (int64_t h = 0; h < node->ne[2]; ++h) {
            std::vector<bool> stays(node->ne[0], true);
            std::fill(stays.begin(), stays.begin() + oracle.n_masked_prompt_, false);
            for (int64_t r = 0; r < n_keep; ++r) {
                stays[oracle.kept_[l][h / n_group * n_keep + r]] = true;
            }
            for (int64_t i = 0; i < node->ne[1]; ++i) {
                auto * p =
                    reinterpret_cast<float *>(static_cast<char *>(node->data) + i * node->nb[1] + h * node->nb[2]);
                double sum = 0.0;
                for (int64_t j = 0; j < node->ne[0]; ++j) {
                    sum += stays[j] ? p[j] : 0.0f;
                }
                for (int64_t j = 0; j < node->ne[0]; ++j) {
                    p[j] = stays[j] ? static_cast<float>(p[j] / sum) : 0.0f;
                }
            }
        }
    }
    return true;
}

std::vector<float> oracle_context::rows(int32_t il, bool values) const {
    const lookm::kv_rows & rows = values ? layer(il).v : layer(il).k;
    const auto cells = compressor_.kv().cells(0);
    std::vector<float> out(rows.n_head_kv * cells.size() * rows.head_dim);
    for (int64_t h = 0; h < rows.n_head_kv; ++h) {
        for (size_t c = 0; c < cells.size(); ++c) {
            lookm::read_row(rows, h, cells[c].index, out.data() + (h * cells.size() + c) * rows.head_dim);
        }
    }
    return out;
}
