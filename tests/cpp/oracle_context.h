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

// A llama.cpp context that is driven token by token, as the pipeline under test (compress()) or as
// the oracle (mask()).
//
// The oracle keeps the full cache. After mask(), the attention probabilities of each layer (without
// flash attention) are set to zero for the evicted cells of that layer and KV head and normalised
// again. That is exactly attention over the kept cells, computed by llama.cpp's code, without
// moving any cell.
class oracle_context {
  public:
    oracle_context(llama_model * model, int32_t n_ctx, int32_t n_ubatch, bool flash_attn,
                   ggml_type type_k, ggml_type type_v, int32_t n_threads, int32_t n_seq,
                   bool kv_unified, size_t compute_bytes);

    // Reads a prompt. tokens[i] >= 0: a text token; tokens[i] < 0: an image cell whose embedding is
    // drawn at random with the seed tokens[i]. Each run of one kind is one llama_batch, as in mtmd.
    // scored: the plan to observe it by. Returns the logits of the last token if it is text.
    std::vector<float> prefill(const std::vector<int32_t> & tokens,
                               const std::optional<lookm::tap_plan> & scored);
    // The same with a function that fills the empty cache and returns the next position.
    std::vector<float> prefill(const std::function<llama_pos(llama_context *)> & evaluate,
                               const std::optional<lookm::tap_plan> & scored);
    // Reads text prompts into sequences 0, 1, ... in one llama_batch, one token of each in turn.
    void prefill_together(const std::vector<std::vector<int32_t>> & prompts,
                          const lookm::tap_plan & plan);
    // Reads a prompt and observes it as the compressor does for these options.
    std::vector<float> prefill_for(const std::vector<int32_t> & tokens,
                                   lookm::compress_options options);
    std::vector<float> decode(int32_t token);

    lookm::compress_result compress(const lookm::compress_options & options);
    std::vector<float> scores(int32_t layer, bool squares) const; // [n_head_kv, n_prompt]

    // Makes every backend pretend not to support these ops (names of ggml_op_name()).
    void refuse(const std::vector<std::string> & ops);
    std::vector<std::string> devices() const; // for each layer, the buffer type of its K

    // Every layer and query sees these cells of the prompt only. Call before prefill() without flash
    // attention: what cells that are not seen make of themselves does not matter.
    void see_only(std::vector<bool> seen);

    // kept: for each layer [n_head_kv, n_keep]
    void mask(std::vector<std::vector<int32_t>> kept, int32_t n_prompt);

    // K or V rows of the sequence's cells as f32, [n_head_kv, n, head_dim]
    std::vector<float> rows(int32_t layer, bool values) const;
    int32_t n_layer() const { return static_cast<int32_t>(compressor_.kv().layers().size()); }
    const lookm::kv_layer & layer(int32_t i) const { return compressor_.kv().layers()[i]; }
    lookm::kv_cache & kv() { return compressor_.kv(); }
    // Number of cells that the last graph attended to, padding included
    int32_t last_n_kv() const { return last_n_kv_; }
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
    std::vector<bool> seen_;
};
