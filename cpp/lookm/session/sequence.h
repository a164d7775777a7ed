#pragma once

#include "lookm/cache/capped_reader.h"
#include "lookm/cache/sequence_sums.h"
#include "lookm/prompt/row_batch.h"
#include "lookm/session/encoded_images.h"
#include "lookm/session/opened_model.h"
#include "lookm/session/session_stats.h"
#include "lookm/session/sized_context.h"

#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace lookm {

// The one sequence of a session: the context that holds its cells, how far it has been read, and
// what happened to it. prompt_reader reads prompts into it; answer decodes what follows.
class sequence {
  public:
    // What a conversation keeps of its turns: nothing (there is none), cells, or cells and scores.
    enum class turns { none, unscored, scored };

    // Throws as sized_context does, and bad_argument for a model that does not continue prompts.
    // opened must outlive it.
    explicit sequence(const opened_model & opened);

    sized_context & context() const { return *context_; }
    class compressor * compressor() const { return context_->compressor(); } // may be null
    const opened_model & opened() const { return opened_; }
    encoded_images & encoded() { return encoded_; }
    session_stats & stats() { return stats_; }
    const session_stats & stats() const { return stats_; }
    llama_pos n_past() const { return n_past_; }
    void set_n_past(llama_pos n_past) { n_past_ = n_past; }
    int32_t n_used() const; // cells in use
    int32_t n_free() const; // cells that the context as it is now, and the cap, have left

    void clear(); // forgets all cells
    // Takes another context, whose cells become the sequence's; returns the one it had.
    std::unique_ptr<sized_context> exchange(std::unique_ptr<sized_context> context);

    // Empties the context and makes room for n_cells of a prompt that is to be compressed like
    // this. A prompt that the cap does not hold comes with its reader.
    void begin(const compress_options & options, int32_t n_cells,
               std::optional<capped_reader> reader = {});

    // Reading, piece by piece.
    const std::optional<capped_reader> & reader() const { return reader_; }
    void set_reader(capped_reader reader);
    int32_t next_batch(int32_t n_left) const; // cells to decode next
    int32_t n_before_squeeze() const;         // cells that can be decoded before some must go
    void make_room(int32_t n);                // under a cap, before n more cells come
    void leave(int32_t n_most);               // squeezes evictable cells until n_most are left
    void added(int32_t n);
    enum class logits_of { none, last, all };
    void decode(const llama_token * tokens, int32_t n, logits_of which);
    // Rows of tokens and of images, which set_n_past() has counted already. kind: of each row
    void decode(row_batch & rows, std::span<const token_kind> kind);

    // For callbacks that run below C code: keeps an exception until check_stopped() rethrows it.
    void stop(std::exception_ptr why);
    void check_stopped();
    void drop_errors(); // of a graph that was stopped

    // After the prompt's last cell: compresses its cells. Fills in stats().
    compress_result compress(compress_options options, const progress_fn & progress);
    void keeps_all(); // fills in stats() where nothing is compressed, and nothing answered
    // Frees the memory that neither the kept cells nor n_answer more need.
    void shrink(int32_t n_answer);

    // A copy of the cells as they are, and of their sums where all queries so far were observed.
    struct copy {
        std::vector<uint8_t> cells; // sized_context::sequence_at_rest()
        std::vector<token_kind> kinds;
        sequence_sums sums;

        size_t bytes() const;
    };
    copy copied() const;
    // After begin(): takes over the first n_cells of a copy, up to n_past. Sums are those of the
    // whole copy. Throws std::runtime_error if llama.cpp cannot.
    void resume(const copy & from, int32_t n_cells, llama_pos n_past);

    // Conversations: scores go along when cells move to another context.
    turns keeps() const { return keeps_; }
    void keep(turns what) { keeps_ = what; }
    std::vector<std::vector<float>> scores() const; // of each layer, in the order of cells
    void restore_scores(const std::vector<std::vector<float>> & scores);
    void carry(int32_t n_cells); // to a context of n_cells that can read more

    // Of the last token. They are kept where they would be lost before they are sampled from.
    std::vector<float> logits() const;
    void keep_logits(std::vector<float> logits) { kept_logits_ = std::move(logits); }
    const std::vector<float> & kept_logits() const { return kept_logits_; }

  private:
    void count_all(); // what there is before compression, in stats()
    template <class Decode>
    void run(int32_t n, Decode && decode); // decodes n tokens; throws if it fails or is stopped
    template <class Squeeze>
    void squeeze(Squeeze && squeeze);

    const opened_model & opened_;
    std::unique_ptr<sized_context> context_;
    encoded_images encoded_;
    std::optional<capped_reader> reader_; // a prompt longer than the cap, or a conversation
    turns keeps_ = turns::none;
    bool sums_are_whole_ = false; // all queries so far have been observed
    llama_pos n_past_ = 0;
    std::vector<float> kept_logits_; // empty: those in the context are good
    std::exception_ptr stopped_;     // why the work below C code was stopped
    session_stats stats_;
};

} // namespace lookm
