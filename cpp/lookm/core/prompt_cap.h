#pragma once

#include "lookm/core/method.h"

#include <cstdint>
#include <vector>

namespace lookm {

// Cells of one kind that follow each other in a prompt: an image, a context, the text between two.
struct prompt_part {
    int32_t n_cells;
    token_kind kind;
    bool evictable = false; // gives up cells before the others do
    bool whole = false;     // must be read at once
};

// Images give up cells before text does, unless the method ranks both alike.
void set_evictable(std::vector<prompt_part> & parts, prior prior);

// Cells of a sequence, in the order of its tokens, of which every layer and KV head is to keep its
// own n_keep.
struct cell_run {
    int32_t first, n, n_keep;
};

// How a prompt of any length is read through a cache of few cells: which parts of it shrink, by how
// much, and when. Nothing but counting: which cells of a part stay is decided elsewhere, by their
// scores.
//
// When n more cells would not fit, evictable parts shrink, the oldest first, each down to its floor
// at once; when all have, the others do likewise. The first cells and the last ones are never given
// up. A floor is the share that all parts of its kind can have alike once the whole prompt is read,
// text coming before images:
//
//   room = cap - n_at_once - recent,  image share = (room - text) / image, 1/32 at least;
//   if that is too much still, text share = (room - image floors) / text, 1/4 at least
class prompt_cap {
  public:
    // n_batch: most cells that may be read at once; n_answer: cells that the answer may take, 0 for
    // any number; held: of each of the first parts, which have been read, the cells that are left.
    // Throws std::invalid_argument that names the least cap that would do.
    prompt_cap(std::vector<prompt_part> parts, int32_t cap, int32_t n_batch, int32_t n_answer,
               const std::vector<int32_t> & held = {});

    int32_t cap() const { return cap_; }
    // cells to read at once, but for parts that must be whole
    int32_t n_at_once() const { return n_at_once_; }
    int32_t n_next() const; // cells to read next: no more than those, of one part
    int32_t n_answer() const { return n_answer_; } // cells to leave to the answer
    int32_t n_held() const;                        // cells of the prompt in the cache
    std::vector<token_kind> kinds() const;         // of each of them

    // What has to shrink before n more cells are read, ascending; from here on it counts as done.
    std::vector<cell_run> room_for(int32_t n);
    // The same, so that no more than these are left, by evictable parts alone.
    std::vector<cell_run> leave(int32_t n_most);
    const std::vector<prompt_part> & parts() const { return parts_; }
    std::vector<int32_t> held() const; // of each part

    void add(int32_t n); // n_next() have been read, or fewer

    // Cells that the answer of n_answer tokens (0: any number) is left under this cap.
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
