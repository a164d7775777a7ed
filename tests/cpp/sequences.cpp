#include "sequences.h"

#include <algorithm>
#include <cstdio>
#include <random>
#include <stdexcept>

namespace {

llama_context_ptr make(llama_model * model, const sequences_options & o) {
    llama_context_params params = llama_context_default_params();
    params.n_ctx = o.n_ctx;
    params.n_batch = o.n_ctx;
    params.n_ubatch = o.n_ubatch;
    params.n_seq_max = o.n_seq;
    params.kv_unified = o.unified;
    params.n_threads = params.n_threads_batch = 1;
    params.flash_attn_type =
        o.flash_attn ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
    params.type_k = o.type_k;
    params.type_v = o.type_v;
    llama_context_ptr ctx{llama_init_from_model(model, params)};
    if (!ctx) {
        throw std::runtime_error("cannot make a context");
    }
    return ctx;
}

void check(int32_t status) {
    if (status != 0) {
        throw std::runtime_error("llama_decode: status " + std::to_string(status));
    }
}

void add(llama_batch & batch, llama_token token, llama_pos pos, llama_seq_id seq, bool logits) {
    const int32_t i = batch.n_tokens++;
    batch.token[i] = token;
    batch.pos[i] = pos;
    batch.n_seq_id[i] = 1;
    batch.seq_id[i][0] = seq;
    batch.logits[i] = logits;
}

// The layer whose K the probabilities were computed from; -1 if this is no attention over a cache.
int cache_layer(const ggml_tensor * probs) {
    const ggml_tensor * t = probs;
    while (t && t->op != GGML_OP_MUL_MAT) {
        t = t->src[0];
    }
    int il = -1;
    if (t) {
        t = t->src[0];
        std::sscanf((t->view_src ? t->view_src : t)->name, "cache_k_l%d", &il);
    }
    return il;
}

} // namespace

sequences::sequences(llama_model * model, const sequences_options & options)
    : ctx_(make(model, options)), compressor_(ctx_.get()), options_(options), model_(model) {}

void sequences::isolate(llama_seq_id seq, int32_t n) {
    compressor_.isolate(seq, n);
    isolated_ = seq;
}

void sequences::unite() {
    compressor_.unite();
    isolated_ = -1;
}

int32_t sequences::alone(int32_t n, const std::function<int32_t()> & decode) {
    if (current_ == isolated_) {
        kv().show_isolated();
        if (!kv().keeps_isolated(n)) {
            throw std::runtime_error("no room below the other sequences");
        }
    }
    const int32_t status = decode();
    kv().show_all();
    return status;
}

void sequences::process(llama_batch & batch) {
    const int32_t status = alone(batch.n_tokens, [&] { return llama_decode(ctx_.get(), batch); });
    llama_batch_free(batch);
    compressor_.tap().rethrow();
    check(status);
}

std::vector<float> sequences::logits(int32_t i) {
    const float * values = llama_get_logits_ith(ctx_.get(), i);
    return {values, values + llama_vocab_n_tokens(llama_model_get_vocab(model_))};
}

std::vector<float> sequences::text(llama_seq_id seq, const std::vector<llama_token> & tokens) {
    current_ = seq;
    llama_batch batch = llama_batch_init(static_cast<int32_t>(tokens.size()), 0, 1);
    for (size_t i = 0; i < tokens.size(); ++i) {
        add(batch, tokens[i], n_past_[seq]++, seq, i + 1 == tokens.size());
    }
    process(batch);
    return logits(-1);
}

void sequences::image(llama_seq_id seq, uint32_t seed, int32_t width, int32_t height,
                      int32_t n_batch, const std::function<void(int32_t)> & between) {
    current_ = seq;
    const llama_rope_type rope = llama_model_rope_type(model_);
    const bool two_d = rope == LLAMA_ROPE_TYPE_MROPE || rope == LLAMA_ROPE_TYPE_IMROPE;
    const auto n_embd = static_cast<size_t>(llama_model_n_embd_inp(model_));
    const llama_pos first = n_past_[seq];
    std::mt19937 generator(seed);
    std::normal_distribution<float> normal;
    std::vector<float> values(n_embd * width * height);
    std::generate(values.begin(), values.end(), [&] { return normal(generator); });
    const int32_t n_all = width * height;
    for (int32_t i = 0; i < n_all;) {
        const int32_t end = n_batch > 0 ? std::min(n_all, i + n_batch) : n_all;
        const int32_t n = end - i;
        llama_batch_ext * batch = llama_batch_ext_init(ctx_.get());
        for (; i < end; ++i) {
            const int32_t at =
                llama_batch_ext_add_embd(batch, seq, {values.data() + i * n_embd, 1, n_embd});
            const llama_pos pos[4] = {first, first + i / width, first + i % width, 0};
            const llama_pos in_line[4] = {first + i, first + i, first + i, 0};
            llama_batch_ext_set_pos(batch, at, two_d ? pos : in_line);
        }
        llama_set_causal_attn(ctx_.get(), options_.causal_images);
        const int32_t status =
            alone(n, [&] { return llama_process(ctx_.get(), LLAMA_PROCESS_TYPE_DECODE, batch); });
        llama_set_causal_attn(ctx_.get(), true);
        llama_batch_ext_free(batch);
        compressor_.tap().rethrow();
        check(status);
        if (between && i < n_all) {
            between(i);
        }
    }
    n_past_[seq] += two_d ? std::max(width, height) : n_all;
}

std::vector<std::vector<float>>
sequences::together(const std::map<llama_seq_id, std::vector<llama_token>> & tokens) {
    current_ = -2; // no sequence that could be isolated
    size_t n_all = 0, n_most = 0;
    for (const auto & [seq, t] : tokens) {
        n_all += t.size();
        n_most = std::max(n_most, t.size());
    }
    llama_batch batch = llama_batch_init(static_cast<int32_t>(n_all), 0, 1);
    std::map<llama_seq_id, int32_t> last;
    for (size_t i = 0; i < n_most; ++i) {
        for (const auto & [seq, t] : tokens) {
            if (i < t.size()) {
                last[seq] = batch.n_tokens;
                add(batch, t[i], n_past_[seq]++, seq, i + 1 == t.size());
            }
        }
    }
    process(batch);
    std::vector<std::vector<float>> out;
    for (const auto & [seq, i] : last) {
        out.push_back(logits(i));
    }
    return out;
}

void sequences::copy(llama_seq_id from, llama_seq_id to) {
    llama_memory_seq_cp(llama_get_memory(ctx_.get()), from, to, -1, -1);
    n_past_[to] = n_past_[from];
}

void sequences::remove(llama_seq_id seq, llama_pos p0, llama_pos p1) {
    llama_memory_seq_rm(llama_get_memory(ctx_.get()), seq, p0, p1);
}

lookm::compress_result sequences::compress(llama_seq_id seq,
                                           const lookm::compress_options & options) {
    return compressor_.compress(seq, options);
}

std::vector<std::vector<int32_t>> sequences::squeeze(llama_seq_id seq,
                                                     const lookm::compress_options & options,
                                                     const std::vector<lookm::cell_run> & runs) {
    const size_t n_before = cells(seq).size();
    const auto kept = compressor_.squeeze(seq, options, runs);
    compressor_.resume();
    std::vector<std::vector<int32_t>> out;
    for (size_t l = 0; l < kept.size(); ++l) {
        const int64_t n_head = kv().layers()[l].k.n_head_kv;
        const int64_t n_kept = static_cast<int64_t>(kept[l].size()) / n_head;
        out.emplace_back();
        for (int64_t h = 0; h < n_head; ++h) {
            int64_t at = h * n_kept;
            int32_t next = 0;
            const auto untouched = [&](int32_t end) {
                for (; next < end; ++next) {
                    out.back().push_back(next);
                }
            };
            for (const lookm::cell_run & run : runs) {
                untouched(run.first);
                out.back().insert(out.back().end(), kept[l].begin() + at,
                                  kept[l].begin() + at + run.n_keep);
                at += run.n_keep;
                next = run.first + run.n;
            }
            untouched(static_cast<int32_t>(n_before));
        }
    }
    return out;
}

void sequences::mask(llama_seq_id seq, const std::vector<std::vector<int32_t>> & kept) {
    compressor_.tap().disarm();
    const std::vector<int32_t> index = cells(seq);
    const int64_t n_cells = kv().n_cells();
    for (size_t l = 0; l < kept.size(); ++l) {
        const int64_t n_head_kv = kv().layers()[l].k.n_head_kv;
        const int64_t n_keep = static_cast<int64_t>(kept[l].size()) / n_head_kv;
        hidden_cells & hidden = hidden_[{seq, kv().layers()[l].il}];
        hidden.assign(n_head_kv * n_cells, false);
        for (int64_t h = 0; h < n_head_kv; ++h) {
            for (const int32_t i : index) {
                hidden[h * n_cells + i] = true;
            }
            for (int64_t r = 0; r < n_keep; ++r) {
                hidden[h * n_cells + index[kept[l][h * n_keep + r]]] = false;
            }
        }
    }
    kv().set_eval_callback(on_node, this);
}

bool sequences::on_node(ggml_tensor * node, bool ask, void * self) {
    auto & s = *static_cast<sequences *>(self);
    const int il = node->op == GGML_OP_SOFT_MAX ? cache_layer(node) : -1;
    const auto & layers = s.kv().layers();
    if (std::none_of(layers.begin(), layers.end(),
                     [il](const lookm::kv_layer & l) { return l.il == il; })) {
        return !ask;
    }
    if (!ask) {
        s.last_n_kv_ = static_cast<int32_t>(node->ne[0]);
        const auto found = s.hidden_.find({s.current_, il});
        if (found != s.hidden_.end()) {
            s.hide(node, found->second);
        }
    }
    return true;
}

void sequences::hide(ggml_tensor * probs, const hidden_cells & hidden) const {
    const int64_t n_cells = kv().n_cells();
    const int64_t n_group = probs->ne[2] * n_cells / static_cast<int64_t>(hidden.size());
    for (int64_t h = 0; h < probs->ne[2]; ++h) {
        const int64_t first = h / n_group * n_cells;
        for (int64_t i = 0; i < probs->ne[1]; ++i) {
            auto * p = reinterpret_cast<float *>(static_cast<char *>(probs->data) +
                                                 i * probs->nb[1] + h * probs->nb[2]);
            double lost = 0.0;
            for (int64_t j = 0; j < probs->ne[0]; ++j) {
                if (hidden[first + j]) {
                    lost += p[j];
                    p[j] = 0.0f;
                }
            }
            // from exp(x) / (rest + lost) to exp(x) / rest, where rest may include a sink, which
            // has no cell
            for (int64_t j = 0; j < probs->ne[0]; ++j) {
                p[j] = static_cast<float>(p[j] / (1.0 - lost));
            }
        }
    }
}

std::vector<float> sequences::scores(llama_seq_id seq, int32_t layer) const {
    return compressor_.tap().scores(layer, kv().cells(seq));
}

std::vector<float> sequences::rows(llama_seq_id seq, int32_t layer, bool values) const {
    const lookm::kv_layer l = kv().layers(seq)[layer];
    const lookm::kv_rows & rows = values ? l.v : l.k;
    const auto index = cells(seq);
    std::vector<float> out(rows.n_head_kv * index.size() * rows.head_dim);
    for (int64_t h = 0; h < rows.n_head_kv; ++h) {
        for (size_t c = 0; c < index.size(); ++c) {
            lookm::read_row(rows, h, index[c], out.data() + (h * index.size() + c) * rows.head_dim);
        }
    }
    return out;
}

std::vector<int32_t> sequences::cells(llama_seq_id seq) const {
    std::vector<int32_t> out;
    for (const lookm::cell & c : kv().cells(seq)) {
        out.push_back(c.index);
    }
    return out;
}

std::vector<bool> sequences::is_text(llama_seq_id seq) const {
    std::vector<bool> out;
    for (const lookm::cell & c : kv().cells(seq)) {
        out.push_back(c.kind == lookm::token_kind::text);
    }
    return out;
}

void sequences::take_over(const sequences & other, llama_seq_id seq) {
    std::vector<uint8_t> cells(llama_state_seq_get_size(other.ctx_.get(), seq));
    cells.resize(llama_state_seq_get_data(other.ctx_.get(), cells.data(), cells.size(), seq));
    cells = lookm::convert_sequence(cells, lookm::kv_cache::forms(other.ctx_.get()),
                                    lookm::kv_cache::forms(ctx_.get()), 2);
    if (llama_state_seq_set_data(ctx_.get(), cells.data(), cells.size(), seq) != cells.size()) {
        throw std::runtime_error("llama.cpp does not take the converted sequence");
    }
    n_past_[seq] = other.n_past_.at(seq);
}

std::string sequences::partial_state(llama_seq_id seq) {
    std::string bytes(
        llama_state_seq_get_size_ext(ctx_.get(), seq, LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY), '\0');
    llama_state_seq_get_data_ext(ctx_.get(), reinterpret_cast<uint8_t *>(bytes.data()),
                                 bytes.size(), seq, LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY);
    return bytes;
}

llama_pos sequences::pos_max(llama_seq_id seq) const {
    return llama_memory_seq_pos_max(llama_get_memory(ctx_.get()), seq);
}
