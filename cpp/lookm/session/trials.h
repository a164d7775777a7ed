#pragma once

#include "lookm/core/compression.h"
#include "lookm/session/answer.h"
#include "lookm/session/sequence.h"

#include <memory>
#include <string>
#include <vector>

namespace lookm {

// One prompt that is read once, and then compressed and answered as often as one likes.
class trials {
  public:
    trials(sequence & s, answer & a) : sequence_(s), answer_(a) {}

    // Keeps a copy of what the sequence has just read: cells of these kinds.
    void keep(const std::vector<token_kind> & kind, bool ends_with_image);
    void forget();

    // Throws bad_argument where nothing has been read, and where this takes attention that was not
    // observed.
    void check(const compression & how) const;
    // The prompt as it was read, compressed like this. Everything but the copy must be cleared.
    void run(const compression & how);
    void clear_all_but_copy();

    // Appends uncompressed text after the compressed prompt, replacing anything appended since the
    // last run(). Throws bad_argument for text that does not fit, and where nothing was tried.
    void follow(const std::string & text);

  private:
    // A prompt as it was read.
    struct copy {
        std::vector<uint8_t> cells;   // the sequence in llama.cpp's own form
        std::vector<token_kind> kind; // of each cell, as compress() takes it
        std::vector<token_kind> made_from;
        std::vector<float> logits; // of the last token; empty after an image
        llama_pos n_past = 0;
        session_stats stats;
    };
    void give_context_back();

    sequence & sequence_;
    answer & answer_;
    std::unique_ptr<copy> copy_;
    // The context that the prompt was read into, while the sequence has its cells in other types.
    std::unique_ptr<sized_context> read_context_;
};

} // namespace lookm
