#include "oracle_context.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <stdexcept>

namespace {

llama_context_ptr make(llama_model * model, int32_t n_ctx, int32_t n_ubatch, bool flash_attn,
                       ggml_type type_k, ggml_type type_v, int32_t n_threads, int32_t n_seq,
                       bool kv_unified) {
    llama_context_params params = llama_context_default_params();
    params.n_ctx = n_ctx;
    params.n_batch = std::max(n_ctx, n_ubatch);
    params.n_ubatch = n_ubatch;
    params.n_seq_max = n_seq;
    params.kv_unified = kv_unified;
    params.n_threads = n_threads;
    params.n_threads_batch = n_threads;
    params.flash_attn_type =
        flash_attn ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
    params.type_k = type_k;
    params.type_v = type_v;
    llama_context_ptr ctx{llama_init_from_model(model, params)};
    if (!ctx) {
        throw std::runtime_error("cannot make a context");
    }
    return ctx;
}

// The cache tensor that these probabilities were computed from; several layers may read the same
// one.
const ggml_tensor * cache_of(const ggml_tensor * kq_soft_max) {
    const ggml_tensor * product = kq_soft_max->src[0];
    while (product->op != GGML_OP_MUL_MAT) {
        product = product->src[0];
    }
    const ggml_tensor * k = product->src[0];
    while (k->view_src || k->op == GGML_OP_CPY) {
        k = k->op == GGML_OP_CPY ? k->src[0] : k->view_src;
    }
    return k;
}

} // namespace

oracle_context::oracle_context(llama_model * model, int32_t n_ctx, int32_t n_ubatch,
                               bool flash_attn, ggml_type type_k, ggml_type type_v,
                               int32_t n_threads, int32_t n_seq, bool kv_unified,
                               size_t compute_bytes)
    : ctx_(make(model, n_ctx, n_ubatch, flash_attn, type_k, type_v, n_threads, n_seq, kv_unified)),
      compressor_(ctx_.get(), compute_bytes), n_embd_(llama_model_n_embd(model)),
      n_vocab_(llama_vocab_n_tokens(llama_model_get_vocab(model))) {}

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

std::vector<float> oracle_context::prefill(const std::vector<int32_t> & tokens,
                                           const std::optional<lookm::tap_plan> & scored) {
    const auto evaluate = [&](llama_context *) {
        n_past_ = 0;
        for (size_t i = 0; i < tokens.size();) {
            size_t end = i + 1;
            while (end < tokens.size() && (tokens[end] < 0) == (tokens[i] < 0)) {
                ++end;
            }
            run(tokens.data() + i, static_cast<int32_t>(end - i), end == tokens.size());
            i = end;
        }
        return n_past_;
    };
    return prefill(evaluate, scored);
}

std::vector<float>
oracle_context::prefill(const std::function<llama_pos(llama_context *)> & evaluate,
                        const std::optional<lookm::tap_plan> & scored) {
    llama_memory_clear(llama_get_memory(ctx_.get()), true);
    if (scored) {
        compressor_.tap().arm(*scored);
    }
    n_past_ = evaluate(ctx_.get());
    compressor_.tap().rethrow();
    llama_synchronize(ctx_.get());
    const float * logits = llama_get_logits_ith(ctx_.get(), -1);
    return {logits, logits + n_vocab_};
}

std::vector<float> oracle_context::prefill_for(const std::vector<int32_t> & tokens,
                                               lookm::compress_options options) {
    for (const int32_t token : tokens) {
        options.kind.push_back(token < 0 ? lookm::token_kind::image : lookm::token_kind::text);
    }
    compressor_.observe(options);
    return prefill(tokens, std::nullopt);
}

void oracle_context::prefill_together(const std::vector<std::vector<int32_t>> & prompts,
                                      const lookm::tap_plan & plan) {
    llama_memory_clear(llama_get_memory(ctx_.get()), true);
    compressor_.tap().arm(plan);
    size_t n_all = 0, n_most = 0;
    for (const auto & p : prompts) {
        n_all += p.size();
        n_most = std::max(n_most, p.size());
    }
    llama_batch batch = llama_batch_init(static_cast<int32_t>(n_all), 0, 1);
    for (size_t i = 0; i < n_most; ++i) {
        for (size_t s = 0; s < prompts.size(); ++s) {
            if (i < prompts[s].size()) {
                const int32_t at = batch.n_tokens++;
                batch.token[at] = prompts[s][i];
                batch.pos[at] = static_cast<llama_pos>(i);
                batch.n_seq_id[at] = 1;
                batch.seq_id[at][0] = static_cast<llama_seq_id>(s);
                batch.logits[at] = false;
            }
        }
    }
    const int32_t status = llama_decode(ctx_.get(), batch);
    llama_batch_free(batch);
    compressor_.tap().rethrow();
    if (status != 0) {
        throw std::runtime_error("llama_decode: status " + std::to_string(status));
    }
    llama_synchronize(ctx_.get());
}

std::vector<float> oracle_context::decode(int32_t token) {
    run(&token, 1, true);
    const float * logits = llama_get_logits_ith(ctx_.get(), -1);
    return {logits, logits + n_vocab_};
}

lookm::compress_result oracle_context::compress(const lookm::compress_options & options) {
    return compressor_.compress(0, options);
}

std::vector<float> oracle_context::scores(int32_t layer, bool squares) const {
    const auto cells = compressor_.kv().cells(0);
    return squares ? compressor_.tap().squares(layer, cells)
                   : compressor_.tap().scores(layer, cells);
}

void oracle_context::refuse(const std::vector<std::string> & ops) {
    compressor_.restrict_to([ops](const ggml_tensor * node) {
        return std::find(ops.begin(), ops.end(), ggml_op_name(node->op)) == ops.end();
    });
}

std::vector<std::string> oracle_context::devices() const {
    std::vector<std::string> names;
    for (const lookm::kv_layer & layer : compressor_.kv().layers()) {
        names.emplace_back(ggml_backend_buffer_name(layer.k.storage->buffer));
    }
    return names;
}

void oracle_context::mask(std::vector<std::vector<int32_t>> kept, int32_t n_prompt) {
    compressor_.tap().disarm();
    kept_ = std::move(kept);
    n_masked_prompt_ = n_prompt;
    compressor_.kv().set_eval_callback(on_node, this);
}

void oracle_context::see_only(std::vector<bool> seen) {
    seen_ = std::move(seen);
    compressor_.kv().set_eval_callback(on_node, this);
}

bool oracle_context::on_node(ggml_tensor * node, bool ask, void * self) {
    auto & oracle = *static_cast<oracle_context *>(self);
    const bool softmax =
        node->op == GGML_OP_SOFT_MAX && std::strncmp(node->name, "kq_soft_max-", 12) == 0;
    if (ask || !softmax) {
        return softmax || !ask;
    }
    oracle.last_n_kv_ = static_cast<int32_t>(node->ne[0]);
    std::vector<float> p(node->ne[0]);
    for (int64_t row = 0; !oracle.seen_.empty() && row < node->ne[1] * node->ne[2]; ++row) {
        const size_t at = row % node->ne[1] * node->nb[1] + row / node->ne[1] * node->nb[2];
        ggml_backend_tensor_get(node, p.data(), at, p.size() * sizeof(float));
        double sum = 0.0;
        for (size_t j = 0; j < p.size(); ++j) {
            p[j] = j >= oracle.seen_.size() || oracle.seen_[j] ? p[j] : 0.0f;
            sum += p[j];
        }
        for (float & x : p) {
            x = sum > 0.0 ? static_cast<float>(x / sum) : 0.0f;
        }
        ggml_backend_tensor_set(node, p.data(), at, p.size() * sizeof(float));
    }
    const auto & layers = oracle.compressor_.kv().layers();
    for (size_t l = 0; l < oracle.kept_.size(); ++l) {
        if (layers[l].k.storage != cache_of(node)) {
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
                const size_t at = i * node->nb[1] + h * node->nb[2];
                ggml_backend_tensor_get(node, p.data(), at, p.size() * sizeof(float));
                double sum = 0.0;
                for (int64_t j = 0; j < node->ne[0]; ++j) {
                    sum += stays[j] ? p[j] : 0.0f;
                }
                for (int64_t j = 0; j < node->ne[0]; ++j) {
                    p[j] = stays[j] ? static_cast<float>(p[j] / sum) : 0.0f;
                }
                ggml_backend_tensor_set(node, p.data(), at, p.size() * sizeof(float));
            }
        }
    }
    return true;
}

std::vector<float> oracle_context::rows(int32_t il, bool values) const {
    lookm::kv_rows rows = values ? layer(il).v : layer(il).k;
    lookm::host_copies copies(compressor_.kv().cpu_backend());
    rows.storage = copies.add(rows.storage);
    copies.fetch();
    const auto cells = compressor_.kv().cells(0);
    std::vector<float> out(rows.n_head_kv * cells.size() * rows.head_dim);
    for (int64_t h = 0; h < rows.n_head_kv; ++h) {
        for (size_t c = 0; c < cells.size(); ++c) {
            lookm::read_row(rows, h, cells[c].index,
                            out.data() + (h * cells.size() + c) * rows.head_dim);
        }
    }
    return out;
}
