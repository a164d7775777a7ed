#pragma once

#include "llama.h"

#include "ggml-backend.h"

#include <span>
#include <vector>

namespace lookm {

// Rows of an image at positions with gaps between them.
//
// Without M-RoPE, llama.cpp accepts consecutive positions only. It gets those, and an eval callback
// replaces them in the graph before the first node that rotates by them. So queries and keys are
// rotated by the given positions, exactly, on the backend that computes them. Afterwards the cells
// get the given positions as well. Only masks of sliding windows see the rows closer together than
// they are, and only among themselves.
class given_positions {
  public:
    // Another callback of the context (score_tap) is called as before.
    explicit given_positions(llama_context * ctx);
    ~given_positions();
    given_positions(const given_positions &) = delete;
    given_positions & operator=(const given_positions &) = delete;

    // Before rows are decoded at first, first + 1, ..., in one ubatch: their positions, ascending
    // and not below these.
    void before(llama_pos first, std::span<const llama_pos> positions);
    // After this: the cells of the sequence get them. Throws std::runtime_error if llama.cpp has
    // computed the rows otherwise, so that some have the wrong positions.
    void after(llama_seq_id seq);

    // Whether the memory of the context can do this.
    static bool supported(llama_context * ctx);

  private:
    static bool on_node(ggml_tensor * node, bool ask, void * self);
    void replace(ggml_tensor * positions);

    llama_context * ctx_;
    ggml_backend_sched_eval_callback inner_;
    void * inner_data_;
    llama_pos first_ = 0;
    std::vector<llama_pos> positions_;
    bool missed_ = false;
    std::vector<const ggml_tensor *> replaced_; // in this decode; one for each split of the graph
};

} // namespace lookm
