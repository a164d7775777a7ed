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
    int32_t n_ctx = 1024; // of all sequences together
    int32_t n_seq = 1;
    int32_t n_ubatch = 128;
    bool unified = true; // one stream for all sequences; otherwise one for each
    bool flash_attn = true;
    bool causal_images = true;
    ggml_type type_k = GGML_TYPE_F16;
    ggml_type type_v = GGML_TYPE_F16;
};

// A llama.cpp context with several sequences of text and of images, which are decoded as mtmd does
// it (with M-RoPE positions if the model has them). Like oracle_context, it is the pipeline under
// test if it compresses, and the oracle if it masks: then the cache stays full, and the attention
// probabilities of evicted cells are set to zero.
class sequences {
  public:
    sequences(llama_model * model, const sequences_options & options);

    // Appends text to a sequence, as one llama_batch. Returns the logits of the last token.
    std::vector<float> text(llama_seq_id seq, const std::vector<llama_token> & tokens);
    // Appends an image in batches of n_batch cells (0: one batch); between(n) is called between
    // them.
    void image(llama_seq_id seq, uint32_t seed, int32_t width, int32_t height, int32_t n_batch = 0,
               const std::function<void(int32_t)> & between = {});
    // Appends text to several sequences in one llama_batch, one token of each in turn. Returns the
    // logits of each last token.
    std::vector<std::vector<float>>
    together(const std::map<llama_seq_id, std::vector<llama_token>> & tokens);

    // Copies the cells of a sequence from another context, whose cache may have another form, into
    // this one, which has none yet.
    void take_over(const sequences & other, llama_seq_id seq);

    void copy(llama_seq_id from, llama_seq_id to); // llama_memory_seq_cp of the whole sequence
    // llama_memory_seq_rm; the position of the next token does not change
    void remove(llama_seq_id seq, llama_pos p0, llama_pos p1);

    // compressor::isolate and unite; in between, llama.cpp sees only seq while its batches are
    // decoded.
    void isolate(llama_seq_id seq, int32_t n);
    void unite();

    void arm() { compressor_.tap().arm(); }
    void observe_all(const lookm::compress_options & options) { compressor_.observe_all(options); }
    lookm::compress_result compress(llama_seq_id seq, const lookm::compress_options & options);

    // compressor::squeeze; afterwards the tap listens again. Returns for each layer [n_head_kv, n]
    // which of the previous cells each remaining cell holds.
    std::vector<std::vector<int32_t>> squeeze(llama_seq_id seq,
                                              const lookm::compress_options & options,
                                              const std::vector<lookm::cell_run> & runs);

    // From now on, queries of seq see only the kept ones of the cells that seq has now, for each
    // layer and KV head. kept: for each layer [n_head_kv, n_keep]. Needs flash attention off and
    // batches of a single sequence.
    void mask(llama_seq_id seq, const std::vector<std::vector<int32_t>> & kept);

    std::vector<float> scores(llama_seq_id seq, int32_t layer) const; // [n_head_kv, n]
    // K or V rows, [n_head_kv, n, head_dim]
    std::vector<float> rows(llama_seq_id seq, int32_t layer, bool values) const;
    std::vector<int32_t> cells(llama_seq_id seq) const; // in the order of tokens
    std::vector<bool> is_text(llama_seq_id seq) const;
    // A copy, made by llama.cpp, of what compression must not change: sliding-window layers and
    // recurrent states
    std::string partial_state(llama_seq_id seq);

    lookm::kv_cache & kv() const { return compressor_.kv(); }
    // After mask(): number of cells that a masked layer attended to in the last graph
    int32_t last_n_kv() const { return last_n_kv_; }
    llama_pos pos_max(llama_seq_id seq) const;

  private:
    // hidden[h * n_cells + cell]
    using hidden_cells = std::vector<bool>;

    static bool on_node(ggml_tensor * node, bool ask, void * self);
    void hide(ggml_tensor * probs, const hidden_cells & hidden) const;
    int32_t alone(int32_t n,
                  const std::function<int32_t()> & decode); // shows only current_, if isolated
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
