#pragma once

#include "llama-cpp.h"
#include "mtmd-helper.h"

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace lookm {

// Rows of embeddings of one sequence that llama.cpp decodes as one batch, in the order in which
// they are added, each at its position. With M-RoPE, a position is that of time, row, column and
// another; without, it is the first of these numbers, and there may be gaps between them
// (given_positions).
class row_batch {
  public:
    using position = std::array<llama_pos, 4>;

    // n_most: rows at most. ctx must outlive it.
    row_batch(llama_context * ctx, llama_seq_id seq, bool mrope, int32_t n_most);

    // Positions go on here. Before the first row; what decode() leaves goes on after its last one.
    void begin(llama_pos next) { next_ = next; }
    // row: [llama_model_n_embd_inp()], or fewer floats, to which zeros are added
    void add(std::span<const float> row, const position & at);
    bool empty() const { return at_.empty(); }
    bool full() const { return size() >= n_most_; }
    int32_t size() const { return static_cast<int32_t>(at_.size()); }

    // Returns what llama_decode() does. Gaps must be supported (given_positions).
    int32_t decode();
    // The rows that decode() has read, until the next one is added.
    mtmd_helper_embd_batch view() const;
    void clear();

  private:
    bool has_gaps() const;

    llama_context * ctx_;
    llama_seq_id seq_;
    bool mrope_;
    int32_t n_most_, n_embd_;
    llama_pos next_ = 0;
    std::vector<float> rows_;
    std::vector<position> at_;
    std::vector<llama_pos> pos_; // for llama.cpp: [section][row]
};

} // namespace lookm
