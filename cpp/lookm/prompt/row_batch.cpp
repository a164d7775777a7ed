#include "lookm/prompt/row_batch.h"

#include "lookm/cache/given_positions.h"

#include <algorithm>
#include <optional>

namespace lookm {

row_batch::row_batch(llama_context * ctx, llama_seq_id seq, bool mrope, int32_t n_most)
    : ctx_(ctx), seq_(seq), mrope_(mrope), n_most_(n_most),
      n_embd_(llama_model_n_embd_inp(llama_get_model(ctx))) {
    if (!mrope_) { // positions with gaps are given to one ubatch
        n_most_ = std::min(n_most_, static_cast<int32_t>(llama_n_ubatch(ctx)));
    }
}

void row_batch::add(std::span<const float> row, const position & at) {
    rows_.insert(rows_.end(), row.begin(), row.end());
    at_.push_back(at);
    rows_.resize(at_.size() * static_cast<size_t>(n_embd_));
}

bool row_batch::has_gaps() const {
    for (int32_t i = 0; !mrope_ && i < size(); ++i) {
        if (at_[i][0] != next_ + i) {
            return true;
        }
    }
    return false;
}

int32_t row_batch::decode() {
    const int32_t n = size(), n_pos = mrope_ ? 4 : 1;
    pos_.resize(static_cast<size_t>(n) * n_pos);
    const llama_batch_ext_ptr batch(llama_batch_ext_init(ctx_));
    for (int32_t i = 0; i < n; ++i) {
        const llama_embd row = {rows_.data() + int64_t(i) * n_embd_, 1,
                                static_cast<size_t>(n_embd_)};
        const int32_t added = llama_batch_ext_add_embd(batch.get(), seq_, row);
        if (added < 0) {
            return -1;
        }
        for (int32_t s = 0; s < n_pos; ++s) {
            pos_[s * n + i] = at_[i][s];
        }
        const llama_pos in_a_row = next_ + i;
        llama_batch_ext_set_pos(batch.get(), added, mrope_ ? at_[i].data() : &in_a_row);
    }
    std::optional<given_positions> given;
    if (has_gaps()) {
        given.emplace(ctx_);
        given->before(next_, pos_);
    }
    const int32_t status = llama_process(ctx_, LLAMA_PROCESS_TYPE_DECODE, batch.get());
    if (status != 0) {
        return status;
    }
    if (given) {
        given->after(seq_);
    }
    next_ = at_.back()[0] + 1;
    return 0;
}

mtmd_helper_embd_batch row_batch::view() const {
    return {size(), rows_.data(), n_embd_, pos_.data(), mrope_ ? 4 : 1, seq_};
}

void row_batch::clear() {
    rows_.clear();
    at_.clear();
}

} // namespace lookm
