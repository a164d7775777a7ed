#pragma once

#include "lookm/cache/compressor.h"

#include "llama-cpp.h"

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

struct sequences_options {
    int32_t n_ctx = 1024; // for all sequences together
    int32_t n_seq = 1;
    int32_t n_ubatch = 128;
    bool unified = true; // one cache for all, or a stream for each
    bool flash_attn = true;
    bool causal_images = true;
    ggml_type type_k = GGML_TYPE_F16;
    ggml_type type_v = GGML_TYPE_F16;
};

// A llama.cpp context with several sequences, of text and of images as mtmd hands them over (with
// M-RoPE positions where the model has them). Like oracle_context, it is the pipeline under test
// when it compresses, and the oracle when it masks: then the full cache stays, and attention
// probabilities lose what evicted cells received.
class sequences {
  public:
    sequences(llama_model * model, const sequences_options & options);

    // One llama_batch each, after what the sequence has already. Logits of the last token.
    std::vector<float> text(llama_seq_id seq, const std::vector<llama_token> & tokens);
    // between(n) is called between batches of n_batch cells (0: one batch).
    void image(llama_seq_id seq, uint32_t seed, int32_t width, int32_t height, int32_t n_batch = 0,
               const std::function<void(int32_t)> & between = {});
    // One llama_batch of several sequences, token by token in turn; logits of each one's last
    // token.
    std::vector<std::vector<float>>
    together(const std::map<llama_seq_id, std::vector<llama_token>> & tokens);

    // Its cells, which were kept in whatever form, in this one's; this one has none of its own yet.
    void take_over(const sequences & other, llama_seq_id seq);

    void copy(llama_seq_id from, llama_seq_id to); // llama_memory_seq_cp of all of it
    void remove(llama_seq_id seq, llama_pos p0,
                llama_pos p1); // llama_memory_seq_rm; the next position stays

    // compressor::isolate and unite; in between, batches of seq are decoded while nothing else
    // shows.
    void isolate(llama_seq_id seq, int32_t n);
    void unite();

    void arm() { compressor_.tap().arm(); }
    void observe_all(const lookm::compress_options & options) { compressor_.observe_all(options); }
    lookm::compress_result compress(llama_seq_id seq, const lookm::compress_options & options);

    // compressor::squeeze; the tap listens again after it. Of each cell that is left, per layer
    // [n_head_kv, n], which of the cells before it holds.
    std::vector<std::vector<int32_t>> squeeze(llama_seq_id seq,
                                              const lookm::compress_options & options,
                                              const std::vector<lookm::cell_run> & runs);

    // From now on queries of seq do not see the cells that seq has now and that are not kept, layer
    // by layer and KV head by KV head; kept: per layer [n_head_kv, n_keep]. Flash attention must be
    // off, and a batch of one sequence.
    void mask(llama_seq_id seq, const std::vector<std::vector<int32_t>> & kept);

    std::vector<float> scores(llama_seq_id seq, int32_t layer) const; // [n_head_kv, n]
    std::vector<float> rows(llama_seq_id seq, int32_t layer,
                            bool values) const;         // [n_head_kv, n, head_dim]
    std::vector<int32_t> cells(llama_seq_id seq) const; // in the order of tokens
    std::vector<bool> is_text(llama_seq_id seq) const;
    // llama.cpp's own copy of what compression must not touch: window layers, recurrent states
    std::string partial_state(llama_seq_id seq);

    lookm::kv_cache & kv() const { return compressor_.kv(); }
    int32_t last_n_kv() const {
        return last_n_kv_;
    } // once masked: cells that a compressed layer last attended over
    llama_pos pos_max(llama_seq_id seq) const;

  private:
    // hidden[h * n_cells + cell]
    using hidden_cells = std::vector<bool>;

    static bool on_node(ggml_tensor * node, bool ask, void * self);
    void hide(ggml_tensor * probs, const hidden_cells & hidden) const;
    int32_t alone(int32_t n, const std::function<int32_t()> & decode); // where current_ is isolated
    void process(llama_batch & batch);
    std::vector<float> logits(int32_t i);

    llama_context_ptr ctx_;
    mutable lookm::compressor compressor_;
    sequences_options options_;
    const llama_model * model_;
    std::map<llama_seq_id, llama_pos> n_past_;
    std::map<std::pair<llama_seq_id, int32_t>, hidden_cells> hidden_; // by sequence and il
    llama_seq_id current_ = 0;
    llama_seq_id isolated_ = -1;
    int32_t last_n_kv_ = 0;
};
