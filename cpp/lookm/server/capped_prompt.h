#pragma once

#include "lookm/cache/compressor.h"
#include "lookm/core/prompt_cap.h"

#include "llama.h"

#include <cstdint>
#include <vector>

namespace lookm::server {

// A prompt that is read through fewer cells than it has (--kv-cells): what is cached shrinks
// between two batches, as prompt_cap says, by the scores so far.
class capped_prompt {
  public:
    // options: kind of each of the prompt's cells. n_cells: of the slot; n_batch: most cells that
    // come at once. Starts to observe. Throws std::invalid_argument as prompt_cap does.
    capped_prompt(compressor & c, llama_seq_id seq, const compress_options & options,
                  std::vector<prompt_part> parts, int32_t n_cells, int32_t n_batch);

    void make_room(int32_t n); // before n more cells are read
    void added(int32_t n) { plan_.add(n); }
    // After the last cell: options of the compression that follows, after room was made for the
    // answer, if it does not free as much.
    compress_options finish(bool compresses);

    int32_t n_at_once() const { return plan_.n_at_once(); }
    int32_t n_squeezed() const { return n_squeezed_; }
    double seconds() const { return seconds_; }

  private:
    void squeeze(int32_t n);

    compressor & compressor_;
    llama_seq_id seq_;
    compress_options options_;
    prompt_cap plan_;
    int32_t n_cells_;
    int32_t n_prompt_;
    int32_t forget_at_; // cell from whose query on attention counts; 0: from the first
    int32_t n_squeezed_ = 0;
    double seconds_ = 0.0;
};

} // namespace lookm::server
