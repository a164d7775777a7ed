#pragma once

#include "lookm/cache/compressor.h"
#include "lookm/core/prompt_cap.h"

#include "llama.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

namespace lookm {

// Reads a prompt through a cache of fewer cells than the prompt has. Before a piece that would not
// fit, cached cells are squeezed by their scores so far; prompt_cap decides which, and by how much.
//
// The caller decodes: make_room(n), n cells, added(n), until n_next() is 0; then finish().
// Sessions, the server and the planner all go through this class. The planner attaches no
// compressor: then cells are only counted.
class capped_reader {
  public:
    // options.kind: one for each cell of the prompt. parts: its images, or tiles of images, and the
    // text between them. n_batch: most cells read at once. n_answer: cells to leave for the answer,
    // 0 for any number. Throws bad_argument for a method that cannot squeeze, and for a prompt that
    // does not fit however much is squeezed.
    capped_reader(const compress_options & options, std::vector<prompt_part> parts, int32_t cap,
                  int32_t n_batch, int32_t n_answer);
    // A turn of a conversation, whose plan goes on from the cells of earlier turns. Every query
    // counts.
    capped_reader(const compress_options & options, prompt_cap plan)
        : options_(options), plan_(std::move(plan)) {}

    // Whether a prompt needs a reader: it and its answer have more cells than the cap.
    static bool needed(int32_t n_cells, int32_t cap, int32_t n_answer) {
        return cap > 0 && n_cells + prompt_cap::answer_share(cap, n_answer) > cap;
    }

    void attach(compressor & c, llama_seq_id seq); // squeezes this sequence from now on
    void begin(compressor & c, llama_seq_id seq);  // the same, and starts to observe attention

    void make_room(int32_t n);  // before n more cells are decoded
    void leave(int32_t n_most); // squeezes evictable parts until n_most cells are left
    // A function of n_most: the share of attention that the cells would hold after leave(n_most),
    // as compressor::held_after() says.
    std::function<std::optional<double>(int32_t n_most)> held_after_leave() const;
    void added(int32_t n) { plan_.add(n); }
    // After the last cell: the options of the compression that follows, or of none. Makes room for
    // the answer if that compression does not free enough.
    compress_options finish(bool compresses);

    const prompt_cap & plan() const { return plan_; }
    const compress_options & options() const { return options_; }
    int32_t n_squeezed() const { return n_squeezed_; } // cells, so far
    double seconds() const { return seconds_; }        // spent on squeezing, so far

  private:
    void squeeze(const std::function<std::vector<cell_run>()> & runs_of_plan);

    compressor * compressor_ = nullptr;
    llama_seq_id seq_ = 0;
    compress_options options_;
    int32_t forget_at_ = 0; // cell whose query is the first to count; 0: all queries count
    prompt_cap plan_;
    int32_t n_squeezed_ = 0;
    double seconds_ = 0.0;
};

} // namespace lookm
