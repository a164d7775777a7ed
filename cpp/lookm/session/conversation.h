#pragma once

#include "lookm/session/answer.h"
#include "lookm/session/prompt_request.h"
#include "lookm/session/sequence.h"

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace lookm {

// Goes on from one prompt and its answer to the next, in one sequence.
class conversation {
  public:
    conversation(sequence & s, answer & a) : sequence_(s), answer_(a) {}

    bool is_under_way() const { return sequence_.keeps() != sequence::turns::none; }

    // A turn that has been checked and planned, and not begun.
    struct turn {
        prompt read;
        capped_reader reader;
        session_stats before; // of earlier turns
        int32_t n_there;      // cells of earlier turns
        int32_t n_answer;
        bool begins, is_capped, is_squeezed;
        double ratio;
        std::optional<auto_ratio> automatic; // ratio is its ceiling
    };
    // Throws bad_argument for what cannot be read; the conversation goes on then. begins: earlier
    // turns are forgotten.
    turn prepare(const prompt_request & request, bool begins) const;
    // The session must be empty for a turn that begins a conversation.
    void read(turn && next, const progress_fn & progress);

    // The conversation between two turns, for restore() in a session of the same model and cache
    // types.
    std::vector<uint8_t> state() const;

    struct saved;
    saved parse(std::span<const uint8_t> state) const; // throws bad_argument; nothing is changed
    // Into an empty session. Throws bad_argument for a state that does not fit the model.
    void restore(const saved & state, const compression & how);

  private:
    void check_types() const;
    void compress(const turn & next); // what has been read
    bool squeezes_with(const compress_options & options) const;
    session_stats stats_so_far() const;
    std::vector<prompt_part> parts_so_far() const;

    sequence & sequence_;
    answer & answer_;
};

// What a state holds.
struct conversation::saved {
    int32_t n_past, pending; // pending: a token, or LLAMA_TOKEN_NULL
    session_stats stats;
    std::vector<prompt_part> parts; // what is left of each
    std::vector<uint8_t> sequence;
    std::vector<std::vector<float>> scores; // of each layer; empty: none are taken

    int32_t n_cells() const;
};

} // namespace lookm
