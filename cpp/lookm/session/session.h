#pragma once

#include "lookm/session/answer.h"
#include "lookm/session/conversation.h"
#include "lookm/session/explanation.h"
#include "lookm/session/fork_guard.h"
#include "lookm/session/opened_model.h"
#include "lookm/session/prefixes.h"
#include "lookm/session/prompt_request.h"
#include "lookm/session/sequence.h"
#include "lookm/session/teacher_forcing.h"
#include "lookm/session/trials.h"

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace lookm {

// One model, one context, and one prompt or conversation at a time. Not thread-safe: callers
// serialise.
//
// What is refused before anything is read leaves the session as it is. After any other exception it
// is empty.
class session {
  public:
    explicit session(const model_options & options);
    // Shares the weights of another session, about which options say nothing then.
    session(const model_options & options, const session & other);

    const fork_guard & guard() const { return guard_; }

    const prompt_markers & markers() const { return opened_.markers; }
    // "off" where "auto" came to that
    const std::string & flash_attn() const { return opened_.options.flash_attn; }
    // cells that prompt and answer may take together
    int32_t n_ctx() const { return sequence_.context().limit(); }
    int32_t kv_cells() const { return sequence_.context().cap(); } // most in use at once, 0: any
    std::string model_name() const;
    std::string apply_template(const std::string & messages) const {
        return opened_.templates.apply(messages);
    }
    chat_prompt prompt_of(const chat_request & request) const {
        return opened_.templates.prompt_of(request);
    }
    void check_template() const { opened_.templates.check(); } // throws if there is none

    // Throws bad_argument for an option that is wrong, or a model that cannot be compressed.
    void check(const compression & how) const;
    // Throws what start() would throw for these options.
    void check(const sampling_options & sampling, const chat_prompt * prompt = nullptr) const;

    // Cells of a prompt, which is not read. Throws bad_argument where tokenize() does.
    int32_t n_cells_of(const prompt_request & request) const {
        return opened_.tokenize(request).n_cells();
    }

    // Forgets the last prompt, reads this one, compresses its cells, and frees the memory that
    // neither they nor n_answer more cells need (sized_context). The answer may grow past n_answer,
    // up to n_ctx. Logits of the prompt's last token are those of the full cache. Cells of contexts
    // are evicted as an image's.
    //
    // Under a cap (model_options) that the prompt and its answer would exceed, the prompt is read
    // piece by piece, and what is cached is squeezed before a piece that would not fit
    // (capped_reader); kv_ratio is then a share of the whole prompt all the same. Throws
    // bad_argument where no squeezing makes it fit.
    void prefill(const prompt_request & request);

    // Reads a prompt up to the end of its last image or context and keeps that (prefixes), so that
    // later prompts go on from it. Nothing is compressed, and no prompt is there to be answered.
    // Throws bad_argument for a prompt without images and contexts, or larger than what may be
    // kept. Returns what is kept, in cells.
    int32_t keep_prefix(const prompt_request & request);
    const prefixes & kept() const { return prefixes_; }
    const std::string & prefix_type() const { return opened_.options.prefix_type; }
    // What keep_prefix() has kept of this prompt, for another session of the same model, cache
    // types and prefix_type; it is read again if it had to make room for others.
    std::vector<uint8_t> prefix_state(const prompt_request & request);
    // Keeps what prefix_state() gave, and forgets the last prompt. Returns what is kept, in cells.
    int32_t restore_prefix(std::span<const uint8_t> state);

    // Trials (trials.h). As prefill(), but every cell stays as it is, and a copy of all is kept.
    // The prompt may end with an image, where follow() adds what is to be answered. request.how
    // says which attention is observed: a trial() can use what another method needs less of, as h2o
    // of what roco does.
    void read(const prompt_request & request);
    // Compresses the cells as they were read, whatever an earlier trial made of them. Throws
    // bad_argument where it takes attention that was not observed.
    void trial(const compression & how);
    // Appends uncompressed text after the compressed prompt, replacing anything appended since the
    // last trial().
    void follow(const std::string & text);

    // A conversation: the first call forgets what was there. Each later one goes on after the last
    // answer, with text as the chat template has it from that answer's end on. What is new is read
    // with what is left of earlier turns; then evictable parts of all turns shrink, the oldest
    // first, until kv_ratio of all cells so far is left. A cap holds over all of it.
    void converse(const prompt_request & request);
    void converse_anew(const prompt_request & request); // forgets what was there in any case
    // false again once an error has stopped the reading of a turn
    bool talking() const { return conversation_.is_under_way(); }
    // Increases each time the current prompt is discarded. Calls that are refused before that do
    // not change it.
    int64_t epoch() const { return epoch_; }

    // The conversation between two turns, for another session of the same model and cache types.
    std::vector<uint8_t> state() const { return conversation_.state(); }
    void restore(std::span<const uint8_t> state, const compression & how);

    // Reads tokens as if the prompt's answer began with them. Returns the log-probabilities, in
    // nats, of the token that comes after each of them: [n, n_vocab]. Another call goes on after
    // them; start() and follow() go back to the prompt's end. Throws bad_argument for tokens that
    // do not exist or do not fit, in conversations, and where start() would.
    std::vector<float> distributions(std::span<const int32_t> tokens);

    // prompt: what is answered, if a chat template says which form the answer has; or null.
    void start(const sampling_options & sampling, const chat_prompt * prompt = nullptr);
    // The next token's text, possibly half a UTF-8 character; nullopt at the end of the answer.
    // Throws std::runtime_error when no cell is free. Under a cap one always is: the older half of
    // the answer's cells goes.
    std::optional<std::string> next();
    bool can_continue() const { return answer_.can_continue(); }
    std::optional<llama_token> token() const { return answer_.pending(); } // that next() has given
    // The distribution that next() has chosen from last, as distributions() gives it: without
    // temperature and penalties. Throws bad_argument before an answer's first token.
    std::vector<float> log_probs() const;

    int32_t n_vocab() const { return llama_vocab_n_tokens(opened_.vocab()); }
    // Tokens of a text. control: names of control tokens in it are those tokens, else only text.
    std::vector<int32_t> tokens_of(const std::string & text, bool control = false) const;
    std::optional<int32_t> begin_token() const; // that prompts begin with
    // Text of tokens, possibly cut within a character. control: with the names of control tokens.
    std::string text_of(std::span<const int32_t> tokens, bool control = false) const;
    // Of one token within a text: with the space that it begins with, and a control token's name.
    std::string piece_of(int32_t token) const;

    const session_stats & stats() const { return sequence_.stats(); }
    // The last prompt, where it was to be explained.
    const std::optional<explanation> & explained() const { return explanation_; }

  private:
    void clear();
    template <class Work>
    auto or_empty(Work && work); // empties the session where work throws
    void turn(const prompt_request & request, bool begins);
    bool can_cut() const;
    void check_prefix_memory(size_t bytes) const;
    std::vector<piece_key> keys_to_keep(const prompt & p) const;
    prefix_need need_of(const prompt & p, const compress_options & options) const;
    prefix_match find_prefix(const prompt & p, std::span<const piece_key> keys,
                             const compress_options & options);
    // Reads a prompt into a sequence that has begun, going on from a prefix, and keeps its own.
    void read_and_keep(const prompt & p, std::vector<piece_key> keys, const prefix_match & found,
                       const progress_fn & progress);

    opened_model opened_;
    fork_guard guard_;
    sequence sequence_;
    answer answer_;
    conversation conversation_;
    trials trials_;
    teacher_forcing teacher_forcing_;
    prefixes prefixes_;
    int64_t epoch_ = 0;
    std::optional<explanation> explanation_;
};

} // namespace lookm
