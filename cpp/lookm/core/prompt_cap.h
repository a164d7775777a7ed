#pragma once

#include "lookm/core/method.h"

#include <cstdint>
#include <vector>

namespace lookm {

// Consecutive cells of one kind: an image, a context, or the text between two of these.
struct prompt_part {
    int32_t n_cells;
    token_kind kind;
    bool evictable = false; // gives up cells before the others do
    bool whole = false;     // must be read at once
};

// Images give up cells before text does, unless the method ranks both alike.
void set_evictable(std::vector<prompt_part> & parts, prior prior);

// Cells [first, first + n) of a sequence, in the order of its tokens. Every layer and KV head keeps
// n_keep of them, each its own choice.
struct cell_run {
    int32_t first, n, n_keep;
};

// Plans how a prompt of any length is read through a cache of cap cells: which parts shrink, by how
// much, and when. It only counts. Which cells of a part stay is decided by their scores, elsewhere
// (compressor::squeeze).
//
// When n more cells would not fit, evictable parts shrink, the oldest first, each down to its floor
// at once. When all have shrunk, the other parts do the same. The first and the last cells are
// never given up. Floors are chosen so that the whole prompt fits and all parts of a kind keep the
// same share. Text keeps its cells before images do:
//
//   left = cap - n_at_once - recent
//   image share = (left - text) / image, at least 1/32
//   if that does not fit: text share = (left - image floors) / text, at least 1/4
class prompt_cap {
  public:
    // n_batch: most cells that may be read at once. n_answer: cells that the answer may take, 0 for
    // any number. held: cells that are left of the first parts, which have been read already.
    // Throws bad_argument that names the least cap that is enough.
    prompt_cap(std::vector<prompt_part> parts, int32_t cap, int32_t n_batch, int32_t n_answer,
               const std::vector<int32_t> & held = {});

    int32_t cap() const { return cap_; }
    // most cells to read at once; a part that must be whole may have more
    int32_t n_at_once() const { return n_at_once_; }
    int32_t n_next() const;                        // cells to read next, of one part; 0 at the end
    int32_t n_answer() const { return n_answer_; } // cells to leave for the answer
    int32_t n_held() const;                        // cells of the prompt in the cache
    std::vector<token_kind> kinds() const;         // of each of them

    // What must shrink before n more cells are read, in ascending order. It counts as done.
    std::vector<cell_run> room_for(int32_t n);
    // The same, until n_most cells are left or no evictable part can give up more.
    std::vector<cell_run> leave(int32_t n_most);
    const std::vector<prompt_part> & parts() const { return parts_; }
    std::vector<int32_t> held() const; // of each part

    void add(int32_t n); // n_next() have been read, or fewer

    // Cells that are left under this cap for an answer of n_answer tokens (0: any number).
    static int32_t answer_share(int32_t cap, int32_t n_answer);

  private:
    struct state {
        int32_t n_read = 0, n_held = 0;
    };

    void share_out(int32_t n_batch);
    bool fits() const;
    bool shrink(int32_t n, std::vector<cell_run> & runs, bool text_too = true);
    int32_t floor_of(size_t part) const;
    size_t under_way() const; // the part that is read next, or past the last

    std::vector<prompt_part> parts_;
    std::vector<state> now_;
    int32_t cap_;
    int32_t n_answer_;
    int32_t n_at_once_ = 1;
    int32_t n_first_ = 1, n_last_ = 0; // never given up
    double image_share_ = 1.0, text_share_ = 1.0;
};

} // namespace lookm
