#include "mtmd_prompt.h"

#include "ggml-backend.h"
#include "mtmd-helper.h"

#include <stdexcept>

namespace {

// Called before a node is computed. Tensors that are neither computed nor set hold what was in
// memory before. This fills them with NaN, so that an encoder that reads them fails every time.
bool poison_unwritten(ggml_tensor * node, bool ask, void * /*user_data*/) {
    for (ggml_tensor * t : node->src) {
        if (ask && t && t->op == GGML_OP_NONE && !t->view_src &&
            !(t->flags & GGML_TENSOR_FLAG_INPUT) && t->buffer &&
            ggml_backend_buffer_get_usage(t->buffer) != GGML_BACKEND_BUFFER_USAGE_WEIGHTS) {
            ggml_backend_tensor_memset(t, 0xff, 0, ggml_nbytes(t));
        }
    }
    return !ask;
}

} // namespace

mtmd_prompt::mtmd_prompt(llama_model * model, const std::string & mmproj_path,
                         const std::string & text, const std::vector<mtmd_image> & images)
    : model_(model), chunks_(mtmd_input_chunks_init()) {
    mtmd_context_params params = mtmd_context_params_default();
    params.n_threads = 1;
    params.print_timings = false;
    params.warmup = false;
    params.cb_eval = poison_unwritten;
    mtmd_.reset(mtmd_init_from_file(mmproj_path.c_str(), model, params));
    if (!mtmd_) {
        throw std::runtime_error("cannot load " + mmproj_path);
    }
    mtmd::bitmaps bitmaps;
    for (const mtmd_image & image : images) {
        bitmaps.entries.emplace_back(image.width, image.height, image.data.data());
    }
    const auto pointers = bitmaps.c_ptr();
    const mtmd_input_text input = {text.data(), text.size(), true, true};
    if (mtmd_tokenize(mtmd_.get(), chunks_.get(), &input, pointers.data(), pointers.size()) != 0) {
        throw std::runtime_error("mtmd_tokenize failed");
    }
}

int32_t mtmd_prompt::n_tokens() const {
    return static_cast<int32_t>(mtmd_helper_get_n_tokens(chunks_.get()));
}

int32_t mtmd_prompt::n_pos() const {
    return mtmd_helper_get_n_pos(chunks_.get());
}

std::vector<int32_t> mtmd_prompt::n_image() const {
    std::vector<int32_t> out;
    for (size_t i = 0; i < mtmd_input_chunks_size(chunks_.get()); ++i) {
        const mtmd_input_chunk * chunk = mtmd_input_chunks_get(chunks_.get(), i);
        if (mtmd_input_chunk_get_type(chunk) == MTMD_INPUT_CHUNK_TYPE_IMAGE) {
            out.push_back(static_cast<int32_t>(mtmd_input_chunk_get_n_tokens(chunk)));
        }
    }
    return out;
}

std::vector<bool> mtmd_prompt::is_text() const {
    std::vector<bool> out;
    for (size_t i = 0; i < mtmd_input_chunks_size(chunks_.get()); ++i) {
        const mtmd_input_chunk * chunk = mtmd_input_chunks_get(chunks_.get(), i);
        const bool text = mtmd_input_chunk_get_type(chunk) == MTMD_INPUT_CHUNK_TYPE_TEXT;
        out.insert(out.end(), mtmd_input_chunk_get_n_tokens(chunk), text);
    }
    return out;
}

bool mtmd_prompt::has_wider_embeddings() const {
    return llama_model_n_embd_inp(model_) > llama_model_n_embd(model_);
}

std::vector<std::vector<llama_token>> mtmd_prompt::tokens() const {
    std::vector<std::vector<llama_token>> out;
    for (size_t i = 0; i < mtmd_input_chunks_size(chunks_.get()); ++i) {
        size_t n = 0;
        const llama_token * tokens =
            mtmd_input_chunk_get_tokens_text(mtmd_input_chunks_get(chunks_.get(), i), &n);
        out.emplace_back(tokens, tokens + n);
    }
    return out;
}

std::vector<std::string> mtmd_prompt::saved_images() const {
    std::vector<std::string> out;
    for (size_t i = 0; i < mtmd_input_chunks_size(chunks_.get()); ++i) {
        const mtmd_input_chunk * chunk = mtmd_input_chunks_get(chunks_.get(), i);
        if (mtmd_input_chunk_get_type(chunk) == MTMD_INPUT_CHUNK_TYPE_IMAGE) {
            size_t n = 0;
            mtmd_input_chunk_save(chunk, nullptr, 0, &n);
            out.emplace_back(n, '\0');
            mtmd_input_chunk_save(chunk, out.back().data(), n, &n);
        }
    }
    return out;
}

std::vector<std::vector<float>> mtmd_prompt::embeddings() const {
    std::vector<std::vector<float>> out;
    for (size_t i = 0; i < mtmd_input_chunks_size(chunks_.get()); ++i) {
        const mtmd_input_chunk * chunk = mtmd_input_chunks_get(chunks_.get(), i);
        if (mtmd_input_chunk_get_type(chunk) != MTMD_INPUT_CHUNK_TYPE_IMAGE) {
            continue;
        }
        if (mtmd_encode_chunk(mtmd_.get(), chunk) != 0) {
            throw std::runtime_error("mtmd_encode_chunk failed");
        }
        const float * values = mtmd_get_output_embd(mtmd_.get());
        out.emplace_back(values, values + llama_model_n_embd_inp(model_) *
                                              mtmd_input_chunk_get_n_tokens(chunk));
    }
    return out;
}

llama_pos mtmd_prompt::evaluate(llama_context * ctx) const {
    llama_pos n_past = 0;
    const auto n_batch = static_cast<int32_t>(llama_n_batch(ctx));
    if (mtmd_helper_eval_chunks(mtmd_.get(), ctx, chunks_.get(), 0, 0, n_batch, true, &n_past) !=
        0) {
        throw std::runtime_error("mtmd_helper_eval_chunks failed");
    }
    return n_past;
}

llama_pos mtmd_prompt::evaluate(llama_context * ctx,
                                const std::vector<std::vector<int32_t>> & cells) const {
    const int32_t n_embd = llama_model_n_embd_inp(model_);
    const int32_t n_pos = mtmd_decode_use_mrope(mtmd_.get()) ? 4 : 1;
    llama_pos n_past = 0;
    size_t image = 0;
    const size_t n_chunks = mtmd_input_chunks_size(chunks_.get());
    for (size_t c = 0; c < n_chunks; ++c) {
        const mtmd_input_chunk * chunk = mtmd_input_chunks_get(chunks_.get(), c);
        if (mtmd_input_chunk_get_type(chunk) == MTMD_INPUT_CHUNK_TYPE_TEXT) {
            size_t n = 0;
            const llama_token * tokens = mtmd_input_chunk_get_tokens_text(chunk, &n);
            llama_batch batch = llama_batch_init(static_cast<int32_t>(n), 0, 1);
            batch.n_tokens = static_cast<int32_t>(n);
            for (size_t i = 0; i < n; ++i) {
                batch.token[i] = tokens[i];
                batch.pos[i] = n_past++;
                batch.n_seq_id[i] = 1;
                batch.seq_id[i][0] = 0;
                batch.logits[i] = i + 1 == n;
            }
            const int32_t status = llama_decode(ctx, batch);
            llama_batch_free(batch);
            if (status != 0) {
                throw std::runtime_error("llama_decode failed");
            }
            continue;
        }
        const std::vector<int32_t> & chosen = cells.at(image++);
        const auto n = static_cast<int32_t>(chosen.size());
        if (mtmd_encode_chunk(mtmd_.get(), chunk) != 0) {
            throw std::runtime_error("mtmd_encode_chunk failed");
        }
        const float * all = mtmd_get_output_embd(mtmd_.get());
        std::vector<float> rows;
        std::vector<llama_pos> pos(static_cast<size_t>(n) * n_pos);
        for (int32_t i = 0; i < n; ++i) {
            rows.insert(rows.end(), all + int64_t(chosen[i]) * n_embd,
                        all + int64_t(chosen[i] + 1) * n_embd);
            pos[i] = n_past + i;
            if (n_pos == 4) {
                const mtmd_decoder_pos at = mtmd_image_tokens_get_decoder_pos(
                    mtmd_input_chunk_get_tokens_image(chunk), n_past, chosen[i]);
                pos[i] = static_cast<llama_pos>(at.t);
                pos[n + i] = static_cast<llama_pos>(at.y);
                pos[2 * n + i] = static_cast<llama_pos>(at.x);
                pos[3 * n + i] = static_cast<llama_pos>(at.z);
            }
        }
        std::vector<int32_t> n_seq(n, 1);
        llama_seq_id zero = 0;
        std::vector<llama_seq_id *> seq(n, &zero);
        std::vector<int8_t> logits(n, 0);
        const llama_batch batch = {n,          nullptr,      rows.data(), pos.data(), n_seq.data(),
                                   seq.data(), logits.data()};
        const bool all_at_once = mtmd_decode_use_non_causal(mtmd_.get(), chunk);
        llama_set_causal_attn(ctx, !all_at_once);
        const int32_t status = llama_decode(ctx, batch);
        llama_set_causal_attn(ctx, true);
        if (status != 0) {
            throw std::runtime_error("llama_decode failed");
        }
        n_past += n_pos == 4 ? mtmd_input_chunk_get_n_pos(chunk) : n;
    }
    return n_past;
}
