#include "lookm/model/token_embeddings.h"

#include "ggml-backend.h"
#include "ggml.h"

#include "llama-model.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <stdexcept>

namespace lookm {

std::vector<float> token_embeddings(const llama_model * model,
                                    std::span<const llama_token> tokens) {
    const ggml_tensor * const table = model->tok_embd;
    const auto to_float = table ? ggml_get_type_traits(table->type)->to_float : nullptr;
    if (!table || (!to_float && table->type != GGML_TYPE_F32)) {
        throw std::runtime_error("this model has no table of token embeddings");
    }
    const int64_t d = table->ne[0];
    std::vector<float> out(tokens.size() * static_cast<size_t>(d));
    std::vector<uint8_t> row(ggml_row_size(table->type, d));
    for (size_t i = 0; i < tokens.size(); ++i) {
        float * const at = out.data() + i * static_cast<size_t>(d);
        const size_t from = static_cast<size_t>(tokens[i]) * table->nb[1];
        if (table->type == GGML_TYPE_F32) {
            ggml_backend_tensor_get(table, at, from, row.size());
            continue;
        }
        ggml_backend_tensor_get(table, row.data(), from, row.size());
        to_float(row.data(), at, d);
    }
    return out;
}

bool reads_rows_as_tokens(const llama_model * model) {
    static constexpr std::array tried = {LLM_ARCH_LLAMA,   LLM_ARCH_MISTRAL3,  LLM_ARCH_QWEN2,
                                         LLM_ARCH_QWEN2VL, LLM_ARCH_QWEN3,     LLM_ARCH_QWEN3VL,
                                         LLM_ARCH_GLM4,    LLM_ARCH_PADDLEOCR, LLM_ARCH_PHI3};
    return std::find(tried.begin(), tried.end(), model->arch) != tried.end() && model->tok_embd;
}

} // namespace lookm
