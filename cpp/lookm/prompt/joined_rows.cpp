#include "lookm/prompt/joined_rows.h"

#include "lookm/cache/given_positions.h"
#include "lookm/model/token_embeddings.h"
#include "lookm/prompt/pruned_images.h"

#include <cstdlib>
#include <string_view>

namespace lookm {

namespace {

// A longer text is read about as fast by itself, and its tokens are much smaller than its rows.
constexpr int32_t n_long = 128;

bool is_off() {
    const char * const given = std::getenv("LOOKM_JOIN");
    return given && std::string_view(given) == "off";
}

} // namespace

joined_rows::joined_rows(llama_context * ctx, const mtmd_context * mmproj, llama_seq_id seq)
    : model_(llama_get_model(ctx)), ctx_(ctx), mmproj_(mmproj),
      batch_(ctx, seq, mmproj && mtmd_decode_use_mrope(mmproj),
             static_cast<int32_t>(llama_n_ubatch(ctx))) {}

// A mask of a sliding window would see the cells of several pruned images too close together.
bool joined_rows::possible(const llama_model * model) {
    return !is_off() && llama_model_n_swa(model) == 0 && reads_rows_as_tokens(model);
}

bool joined_rows::takes_text(int32_t n_tokens) {
    return n_tokens < n_long;
}

bool joined_rows::takes_image(const mtmd_input_chunk * image, bool pruned) const {
    const bool gaps = pruned && !mtmd_decode_use_mrope(mmproj_);
    return mtmd_input_chunk_get_type(image) == MTMD_INPUT_CHUNK_TYPE_IMAGE && // not sound
           !mtmd_decode_use_non_causal(mmproj_, image) &&
           (!gaps || given_positions::supported(ctx_));
}

int32_t joined_rows::add(std::span<const llama_token> tokens, llama_pos at,
                         const decode_fn & decode) {
    if (tokens.empty()) { // a context of nothing but a control token
        return 0;
    }
    const std::vector<float> rows = token_embeddings(model_, tokens);
    const size_t n_embd = rows.size() / tokens.size();
    int32_t status = 0;
    for (auto row = rows.begin(); row != rows.end() && status == 0; row += n_embd, ++at) {
        if (batch_.empty()) {
            batch_.begin(at);
        }
        next_ = at + 1;
        status = add({row, row + n_embd}, {at, at, at, 0}, token_kind::text, decode);
    }
    return status;
}

int32_t joined_rows::add(const mtmd_input_chunk * image, std::span<const float> embeddings,
                         std::span<const int32_t> cells, llama_pos at, const decode_fn & decode) {
    if (batch_.empty()) {
        batch_.begin(at);
    }
    const size_t n_embd = embeddings.size() / mtmd_input_chunk_get_n_tokens(image);
    next_ = at + mtmd_input_chunk_get_n_pos(image);
    const size_t n = cells.empty() ? mtmd_input_chunk_get_n_tokens(image) : cells.size();
    int32_t status = 0;
    for (size_t i = 0; i < n && status == 0; ++i) {
        const int32_t cell = cells.empty() ? static_cast<int32_t>(i) : cells[i];
        status = add(embeddings.subspan(cell * n_embd, n_embd),
                     position_of(mmproj_, image, at, cell), token_kind::image, decode);
    }
    return status;
}

int32_t joined_rows::add(std::span<const float> row, const row_batch::position & at,
                         token_kind kind, const decode_fn & decode) {
    if (batch_.full()) { // it could not be decoded before
        if (const int32_t status = finish(decode); status != 0) {
            return status;
        }
    }
    batch_.add(row, at);
    kind_.push_back(kind);
    return batch_.full() ? finish(decode) : 0;
}

int32_t joined_rows::finish(const decode_fn & decode) {
    if (batch_.empty()) {
        return 0;
    }
    const int32_t status = decode(batch_, kind_);
    if (status == 0) {
        batch_.clear();
        kind_.clear();
    }
    return status;
}

} // namespace lookm
