#pragma once

#include "lookm/session/sequence.h"

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace lookm {

// log(softmax(logits)) in nats, summed in double precision: logits_i - log(sum_j exp(logits_j)).
void log_softmax(std::span<const float> logits, std::span<float> out);

// Reads given tokens in place of an answer, to learn what the model would say after each of them.
class teacher_forcing {
  public:
    explicit teacher_forcing(sequence & s) : sequence_(s) {}

    // Throws bad_argument for tokens that the vocabulary does not have, and for more of them than
    // fit into n_ctx or under the cap; out_of_memory if their distributions do not fit into memory.
    void check(std::span<const llama_token> tokens) const;
    // The tokens, which check() has passed, follow those of the last call, or the prompt. Returns
    // the log-probabilities of the next token after each of them: [n, n_vocab]. Like an answer,
    // they may outgrow the context and move the sequence to a larger one.
    std::vector<float> read(std::span<const llama_token> tokens);

    // The sequence as it was before the first read(), so that its answer can begin. Nothing happens
    // if nothing was read.
    void go_back();
    void forget() { prompt_.reset(); } // the sequence has changed

  private:
    size_t n_vocab() const;

    // The sequence before the first of the tokens.
    struct prompt_end {
        llama_pos n_past = 0;
        std::vector<float> logits;
        std::vector<uint8_t> cells; // a copy, empty where the memory can forget its last cells
    };

    sequence & sequence_;
    std::optional<prompt_end> prompt_; // nothing has been read
};

} // namespace lookm
