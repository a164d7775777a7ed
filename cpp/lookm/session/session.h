#pragma once

#include "lookm/cache/compressor.h"
#include "lookm/core/budget.h"
#include "lookm/core/compression.h"
#include "lookm/core/prompt_cap.h"
#include "lookm/model/model.h"
#include "lookm/prompt/chat_template.h"
#include "lookm/prompt/prompt.h"
#include "lookm/session/explanation.h"
#include "lookm/session/sized_context.h"

#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace lookm {

// What the options come to. Throws bad_argument for what is wrong, at any ratio.
compress_options checked(const compression & how);
bool evicts(const compress_options & options);
// Throws std::invalid_argument where they evict from a model that cannot be compressed: unsupported
// says why.
void check_supported(const compression & how, const std::string & unsupported);

void check_compute_bytes(int64_t compute_bytes); // throws std::invalid_argument

// Throws std::invalid_argument for a prompt, not empty, that no answer can follow.
void check_ends_with_text(const prompt & p);

// Throws std::invalid_argument for a method that cannot read a prompt of n_cells through a cap.
void check_squeezes(const method & m, int32_t n_cells, int32_t cap);

// Throws std::invalid_argument if cells of an image of p must be computed at once and are too many
// for that.
void check_ubatch(const prompt & p, const mtmd_context * mmproj, const model_options & options);

// Throws std::invalid_argument for a model that does not continue prompts from a cache.
void check_decoder_only(const llama_model * model, const llama_context * ctx,
                        const model_options & options);

struct sampling_options {
    float temperature = 0.2f; // 0: greedy
    float top_p = 0.95f;
    int32_t top_k = 40;
    float min_p = 0.05f;
    float repeat_penalty = 1.0f;
    float frequency_penalty = 0.0f;
    float presence_penalty = 0.0f;
    uint32_t seed = LLAMA_DEFAULT_SEED;
    bool ignore_eos = false; // no token ends the answer
};

void check_sampling(const sampling_options & sampling); // throws std::invalid_argument

// What happened to the last prompt: counts in cells, sizes in bytes, times in seconds.
struct session_stats {
    int32_t prompt_cells = 0, text_cells = 0, image_cells = 0, context_cells = 0,
            squeezed_cells = 0, kept_cells = 0;
    cell_counts kept_of; // kept_cells
    std::string method, note;
    size_t bytes_used_before = 0, bytes_used_after = 0;
    size_t bytes_allocated_before = 0, bytes_allocated_after = 0;
    size_t compress_bytes_peak = 0;
    double encode_seconds = 0, prefill_seconds = 0, score_seconds = 0, compress_seconds = 0,
           move_seconds = 0, decode_seconds = 0;
    int32_t encode_images = 0, decode_tokens = 0;
};

enum class phase { encode, prefill, compress };

// Called between steps, and ten times a second within long ones; what it throws stops the work and
// comes out of prefill(), and the session is empty again.
using progress_fn = std::function<void(phase, int done, int total)>;

// One model, one context, one conversation at a time. Not thread-safe: callers serialise.
class session {
  public:
    explicit session(const model_options & options);
    // With the weights of another session, which options say nothing about then.
    session(const model_options & options, const session & other);
    ~session();

    // Throws std::runtime_error in a forked child that cannot go on with it: one that another
    // thread was at work in, or any whose model lies on a device or server, which the parent goes
    // on with.
    void check_forked() const;
    bool may_be_freed() const; // in this process

    // Whether prompts compressed like this are scored by all their queries (model_options::scored).
    // Throws std::invalid_argument for an option that is wrong.
    static bool scores_all_queries(const compression & how);

    const prompt_markers & markers() const { return markers_; }
    const std::string & flash_attn() const {
        return options_.flash_attn;
    } // off where auto was resolved to it
    int32_t n_ctx() const {
        return room_->limit();
    } // cells that prompt and answer may take together
    int32_t kv_cells() const { return room_->cap(); } // most cells in use at once, 0: any number
    std::string model_name() const;
    std::string apply_template(const std::string & messages) const {
        return template_->apply(messages);
    }
    void check_template() const {
        template_->check();
    } // throws std::invalid_argument if there is none

    // Throws std::invalid_argument for an option that is wrong, or a model that cannot be
    // compressed.
    void check(const compression & how) const;

    // Forgets the last prompt, processes this one (one marker per image and per context),
    // compresses its cells, and frees the memory that neither they nor n_answer more cells need
    // (sized_context). The answer may grow past n_answer, up to n_ctx. Logits of the prompt's last
    // token are those of the full cache. Cells of contexts are evicted as an image's.
    //
    // Under a cap (model_options) that the prompt and its answer would exceed, the prompt is read
    // piece by piece, and what is cached is squeezed before a piece that would not fit
    // (prompt_cap); kv_ratio then holds of what is left. Throws std::invalid_argument where no
    // squeezing makes it fit.
    void prefill(const std::string & text, std::span<const image_source> images,
                 std::span<const std::string> contexts, const compression & how, int32_t n_answer,
                 const progress_fn & progress = {});

    // Trials (trials.cpp): one prompt is read once, and then compressed and answered as often as
    // one likes.
    //
    // As prefill(), but every cell stays as it is and a copy of all is kept. The prompt may end
    // with an image, where follow() adds what is to be answered. kv says which attention is
    // observed: a trial() can use what another method needs less of, as h2o of what roco does.
    void read(const std::string & text, std::span<const image_source> images,
              std::span<const std::string> contexts, const compression & how, int32_t n_answer,
              const progress_fn & progress = {});
    // The cells as they were read, compressed like this, whatever a trial before has made of them.
    // Throws std::invalid_argument where it takes attention that was not observed.
    void trial(const compression & how);
    // Text behind the compressed prompt, uncompressed, in the place of all that has come behind it
    // since trial().
    void follow(const std::string & text);

    // Tokens of a text, control tokens among them only text; and text of tokens, possibly cut
    // within a character.
    std::vector<int32_t> tokens_of(const std::string & text) const;
    std::string text_of(std::span<const int32_t> tokens) const;

    // A conversation: the first call forgets what was there, each later one goes on after the last
    // answer, with text as the chat template has it from that answer's end on. What is new is read
    // with what is left of earlier turns, and then evictable parts of all turns shrink, the oldest
    // first, until kv_ratio of all cells so far is left. A cap holds over all of it. Throws as
    // prefill() does; where it throws before anything is read, the conversation goes on.
    void converse(const std::string & text, std::span<const image_source> images,
                  std::span<const std::string> contexts, const compression & how, int32_t n_answer,
                  const progress_fn & progress = {});
    // The same, but forgets what was there in any case.
    void converse_anew(const std::string & text, std::span<const image_source> images,
                       std::span<const std::string> contexts, const compression & how,
                       int32_t n_answer, const progress_fn & progress = {});
    bool talking() const {
        return talking_;
    } // false again once an error has stopped a turn's reading
    // Another one whenever what was there is forgotten; what is refused before leaves it as it is.
    int64_t epoch() const { return epoch_; }

    // The conversation between two turns, to go on with in another session of the same model and
    // cache types.
    std::vector<uint8_t> state() const;
    void restore(std::span<const uint8_t> state,
                 const compression & how); // throws std::invalid_argument

    void start(const sampling_options & sampling); // an answer to the last prompt begins
    // One more token: its text, possibly half a UTF-8 character; nullopt at the end of the answer.
    // Throws std::runtime_error when no cell is free. Under a cap one always is: the older half of
    // the answer's cells goes.
    std::optional<std::string> next();
    bool can_continue() const; // whether a cell is free for another token

    const session_stats & stats() const { return stats_; }

    // Whether prompts from now on are explained, cell by cell; costs nothing while they are not.
    void explain(bool on) { explains_ = on; }
    const std::optional<explanation> & explained() const { return explanation_; } // the last prompt

  private:
    struct progress_state;
    struct image_batches;
    class stop_switch;
    struct prompt_copy;

    session(const model_options & options, std::shared_ptr<llama_model> model);
    void clear();
    void abandon(); // after an exception within a prompt
    void begin(const compress_options & options, int32_t n_room,
               std::optional<prompt_cap> cap = {});
    void check_fits(const prompt & p) const;
    // Plan of a prompt that the cap does not hold, or nothing. Throws std::invalid_argument where
    // there is none.
    std::optional<prompt_cap> through_cap(const prompt & p, const compress_options & options,
                                          int32_t n_answer);
    void process(const prompt & p, const progress_fn & progress);
    void process_text(const std::vector<llama_token> & tokens, bool last, progress_state & state);
    void process_image(const mtmd_input_chunk * chunk, progress_state & state);
    void check_stopped(); // rethrows what a callback inside llama.cpp has thrown
    void decode(const llama_token * tokens, int32_t n, bool logits);
    std::vector<prompt_part> parts_of(const prompt & p, prior prior, int32_t split_at) const;
    void make_room(int32_t n); // under a cap, before n more cells come
    void squeeze(int32_t n_held, const std::function<std::vector<cell_run>()> & plan);
    std::vector<std::vector<float>> scores() const;
    void restore_scores(const std::vector<std::vector<float>> & scores);
    void check_can_talk() const;
    bool squeezes_with(const compress_options & options) const;
    int32_t n_ctx_that_counts() const; // 0 for a model that the context's size means nothing to
    void turn(bool begins, const std::string & text, std::span<const image_source> images,
              std::span<const std::string> contexts, const compression & how, int32_t n_answer,
              const progress_fn & progress);
    void carry(int32_t n_cells); // to a context of so many, scores and all
    std::vector<prompt_part> parts_so_far() const;
    int32_t next_batch(int32_t n_left) const;
    void added(int32_t n);
    void compress(compress_options options, const progress_fn & progress);
    void shrink(int32_t n_answer);
    bool full() const; // no cell is free in the context as it is now
    void make_cell();  // frees one, by more memory or by forgetting
    void answer_from_here();
    session_stats stats_so_far() const; // the answer's cells among the prompt's
    llama_token sample();

    model_options options_;
    int generation_; // of the process that made it
    bool on_devices_;
    std::shared_ptr<llama_model> model_;
    std::unique_ptr<sized_context> room_;
    std::unique_ptr<sized_context>
        read_room_; // of the prompt that is tried, while room_ has its cells in other types
    prompt_markers markers_;
    mtmd::context_ptr mmproj_;
    std::unique_ptr<chat_template> template_;
    compress_options squeezing_;        // how
    std::optional<prompt_cap> reading_; // a prompt that is longer than the cap, or a conversation
    bool talking_ = false;              // a conversation is in the cache
    bool squeezes_turns_ = false;       // of that conversation
    int64_t epoch_ = 0;
    int32_t forget_scores_at_ = 0; // cells read when a window scorer's first query comes
    llama_pos answer_pos_ = 0;     // of the first cell of the answer that is not forgotten
    int32_t n_forgotten_ = 0;      // cells of the answer
    std::vector<float>
        prompt_logits_;         // of the prompt's last token, while the answer has none of its own
    llama_sampler_ptr sampler_; // null: no answer is under way
    std::optional<llama_token> pending_; // sampled, not yet in the cache
    llama_pos n_past_ = 0;
    bool ready_ = false;         // a prompt is in the cache, and no answer to it has been started
    std::exception_ptr stopped_; // thrown by progress inside llama.cpp's C code
    session_stats stats_;
    bool explains_ = false;
    std::optional<explanation> explanation_;
    std::unique_ptr<prompt_copy> copy_; // of the last read()
};

} // namespace lookm
