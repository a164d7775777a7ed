#pragma once

#include "lookm/cache/compressor.h"
#include "lookm/graph/host_copies.h"

#include "llama-cpp.h"

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

// A bare llama.cpp context driven token by token: the pipeline under test on one side, the oracle
// on the other.
//
// The oracle keeps the full cache. After mask(), each layer's attention probabilities (flash
// attention off) lose, head by head, what the evicted cells of that layer and KV head received, and
// are normalised again: exactly attention over the kept cells, by llama.cpp's own code, with
// nothing moved.
class oracle_context {
  public:
    oracle_context(llama_model * model, int32_t n_ctx, int32_t n_ubatch, bool flash_attn,
                   ggml_type type_k, ggml_type type_v, int32_t n_threads, int32_t n_seq,
                   bool kv_unified, size_t compute_bytes);

    // tokens[i] >= 0: a text token; tokens[i] < 0: an image cell, embedding drawn from seed
    // tokens[i]. Runs of one kind are one llama_batch, as mtmd makes them. Returns the last token's
    // logits when it is text. scored: observed by this plan
    std::vector<float> prefill(const std::vector<int32_t> & tokens,
                               const std::optional<lookm::tap_plan> & scored);
    // The same with whatever fills the empty cache and tells the next position.
    std::vector<float> prefill(const std::function<llama_pos(llama_context *)> & evaluate,
                               const std::optional<lookm::tap_plan> & scored);
    // Text prompts of sequences 0, 1, ... in one llama_batch, token by token in turn; observed.
    void prefill_together(const std::vector<std::vector<int32_t>> & prompts,
                          const lookm::tap_plan & plan);
    // A prompt of tokens, observed as the compressor wants it for these options.
    std::vector<float> prefill_for(const std::vector<int32_t> & tokens,
                                   lookm::compress_options options);
    std::vector<float> decode(int32_t token);

    lookm::compress_result compress(const lookm::compress_options & options);
    std::vector<float> scores(int32_t layer, bool squares) const; // [n_head_kv, n_prompt]

    // Every backend pretends that it cannot run these ops (names as ggml_op_name has them).
    void refuse(const std::vector<std::string> & ops);
    std::vector<std::string> devices() const; // per layer, the buffer type that holds its K

    void mask(std::vector<std::vector<int32_t>> kept,
              int32_t n_prompt); // per layer [n_head_kv, n_keep]

    // rows of the sequence's cells as f32, [n_head_kv, n, head_dim]
    std::vector<float> rows(int32_t layer, bool values) const;
    int32_t n_layer() const { return static_cast<int32_t>(compressor_.kv().layers().size()); }
    const lookm::kv_layer & layer(int32_t i) const { return compressor_.kv().layers()[i]; }
    lookm::kv_cache & kv() { return compressor_.kv(); }
    int32_t last_n_kv() const {
        return last_n_kv_;
    } // cells that the last graph attended over, padding included
    llama_context * raw() { return ctx_.get(); }

    double score_seconds() { return compressor_.tap().seconds(); }

  private:
    static bool on_node(ggml_tensor * node, bool ask, void * self);
    void run(const int32_t * tokens, int32_t n, bool last);

    llama_context_ptr ctx_;
    mutable lookm::compressor compressor_;
    int32_t n_embd_, n_vocab_, n_past_ = 0;
    int32_t last_n_kv_ = 0;
    std::vector<std::vector<int32_t>> kept_;
    int32_t n_masked_prompt_ = 0;
};
