#pragma once

#include "lookm/session/sampling.h"
#include "lookm/session/sequence.h"

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace lookm {

// The answer to what a sequence holds, token by token.
class answer {
  public:
    explicit answer(sequence & s) : sequence_(s) {}

    void clear();
    // An answer begins at the sequence's end, once it is started; is_ready: it may be.
    void from_here(bool is_ready);
    void drop(); // ends the answer that is under way; its cells stay
    bool is_ready() const { return ready_; }

    // prompt: what is answered, if a chat template says which form the answer has; or null. Throws
    // bad_argument for a wrong option, and where nothing has been read to answer.
    void start(const sampling_options & sampling, const chat_prompt * prompt);
    // Throws where no answer is under way, or no cell is free for the next token.
    void check_goes_on() const;
    // The next token's text, possibly half a UTF-8 character; nullopt at the end of the answer. An
    // exception of llama.cpp may leave the sequence without a context.
    std::optional<std::string> next();
    bool can_continue() const; // whether a cell is free for another token, or can be freed

    // The last token: sampled, and not in the cache yet.
    std::optional<llama_token> pending() const { return pending_; }
    void set_pending(llama_token token) { pending_ = token; }
    bool has_chosen() const { return has_chosen_; } // whether next() has chosen a token
    std::span<const float> logits() const;          // that the last token was chosen from
    int32_t n_cells() const { return sequence_.n_past() - begin_; }
    int32_t n_forgotten() const {
        return n_forgotten_;
    } // older cells that made room for newer ones

  private:
    void make_cell(); // frees one, by more memory or by forgetting

    sequence & sequence_;
    std::optional<token_sampler> sampler_; // none: no answer is under way
    std::vector<llama_token> shown_;       // control tokens that are part of the answer's text
    std::optional<llama_token> pending_;
    llama_pos begin_ = 0; // of the first cell that is not forgotten
    int32_t n_forgotten_ = 0;
    bool ready_ = false; // a prompt has been read, and no answer to it has been started
    bool has_chosen_ = false;
};

} // namespace lookm
