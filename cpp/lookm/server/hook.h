#pragma once

#include "lookm/cache/capped_reader.h"
#include "lookm/core/stopwatch.h"
#include "lookm/core/turn_balance.h"
#include "lookm/core/turns.h"
#include "lookm/server/answer_cells.h"
#include "lookm/server/compressed_prompts.h"
#include "lookm/server/full_prefixes.h"
#include "lookm/server/metrics.h"
#include "lookm/server/settings.h"
#include "lookm/server/slot_records.h"

#include "llama.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace lookm::server {

// A prompt in a slot of llama-server, as far as compression needs it. The slot's id is also the id
// of its sequence.
struct slot_prompt {
    int32_t slot;
    int32_t task;     // llama-server's number of the request
    int32_t n_tokens; // of the whole prompt; one cell each
    bool has_image;
    asked_ratio ratio;
    std::string adapters; // LoRA adapters that it is read with, and their scales
    // The kind of each token, starting at the first one that is not packed yet. Called when the
    // prompt is observed.
    std::function<std::vector<token_kind>(packed_cells)> kind;
    // The prompt's images and the text between them. Called when the prompt may be read through a
    // cap.
    std::function<std::vector<prompt_part>()> parts;
};

// The tokens that a slot holds.
struct slot_tokens {
    int32_t n;
    std::function<int32_t(llama_pos)> n_up_to; // of them, those up to a position
};

// Compression inside llama-server's loop. context.cpp calls it around each decode, from the one
// thread that decodes. Other threads may call numbers() only.
//
// Prompts that will be compressed are read one after another: there is one set of scores, that of
// the prompt being read, and at most one such prompt is in the cache at its full length. It is read
// in batches without rows of other slots, and into cells of its own (compressor::isolate), so what
// is kept of it does not depend on other slots. plan_round arranges this.
class hook {
  public:
    // Throws std::invalid_argument if the context's memory cannot be compressed. The context must
    // live as long as the hook is called.
    void attach(llama_context * ctx);
    bool attached(const llama_context * ctx) const { return compressor_ && ctx == ctx_; }

    // Whether this prompt is to be compressed, as far as that is known before it is read.
    bool wants(const slot_prompt & p) const;
    // Whether its attention is summed up while it is read: to compress it, or because it does not
    // fit into its slot's cells at once.
    bool observes(const slot_prompt & p) const { return wants(p) || exceeds(p); }
    bool exceeds(const slot_prompt & p) const; // the slot's cells
    // Whether this prompt may continue from the cells of the tokens that its slot holds. n_common:
    // tokens at the start that are the same. Cells that were never scored cannot be compressed
    // later, so a prompt that wants compression does not continue from them. Cells cannot be
    // reused either if some of their tokens have been evicted by a cap.
    bool may_reuse(const slot_prompt & p, int32_t n_common, const slot_tokens & held) const;

    // Tokens at the start of a prompt that can come from a full prefix (full_prefixes.h), as they
    // need not be observed or come with their sums. 0: the prompt is read from its start.
    int32_t n_from_prefix(const slot_prompt & p) const;
    // Keeps the first tokens of a prompt, which are what has been read of it, unless cells of them
    // are gone, or a prompt can go on from their first n_useful already.
    void keep_prefix(const slot_prompt & p, const server_tokens & first, int32_t n_useful);
    full_prefixes & prefixes() { return prefixes_; }
    compressed_prompts & compressed() { return compressed_; }
    void take_prefix(std::span<const uint8_t> saved) { prefixes_.take(saved, *compressor_); }
    // What compression has left of exactly this prompt before; null if it is not kept.
    std::shared_ptr<const compressed_prompt> find_same(const slot_prompt & p,
                                                       const server_tokens & tokens);
    // Puts that into the prompt's slot; llama-server then decodes the last token alone, for which
    // finish() substitutes what is kept. Returns whether llama.cpp can.
    bool repeat(const slot_prompt & p, std::shared_ptr<const compressed_prompt> same);
    // Keeps what finish() has left of a prompt.
    void keep_compressed(const slot_prompt & p, const server_tokens & tokens);
    // A prompt goes on from the first n tokens of a full prefix, whose cells, of these kinds, are
    // in its slot.
    void restored(const slot_prompt & p, std::shared_ptr<const full_prefix> from,
                  std::span<const token_kind> kind, int32_t n);
    // Whether slots can go back to any earlier token; else only to the end of a full prefix.
    bool can_cut() const { return kv_cache::memory_type(ctx_) == "kv_cache"; }

    // Gives each slot n cells for a prompt and its answer (--kv-cells), of which a batch takes at
    // most n_batch.
    void cap(int32_t n, int32_t n_batch);
    bool capped() const { return cap_.n_cells > 0; }
    int32_t slot_cells() const { return cap_.n_cells; }
    // Why this prompt cannot be read at all; "" if it can. empty: its slot holds no cells.
    std::string refusal(const slot_prompt & p, bool empty) const;

    // Whether this task's prompt continued from compressed cells and was not read to its end. Its
    // new cells then have no scores that another prompt could use.
    bool is_half_read(int32_t slot, int32_t task) const;
    int32_t n_cells() const { return compressor_->kv().n_cells(); }
    int32_t n_free() const { return n_cells() - compressor_->kv().n_used(); }
    int32_t n_used(int32_t slot) const { return compressor_->kv().n_used_by(slot); }
    int32_t n_used_alone(int32_t slot) const { return compressor_->kv().n_used_alone_by(slot); }

    // Plans the next round. The plan is valid until the next call.
    const round_plan & plan_next(const std::vector<slot_view> & slots, const cache_view & cache);
    // Whether this slot has the observed prompt that is read in this round.
    bool is_reader(int32_t slot) const { return slot == round_.reader; }

    // Before a decode of n tokens of an observed prompt, which has no rows of other slots; or of
    // other tokens only (nullptr), which are not observed.
    void before_decode(const slot_prompt * p, int32_t n = 0);
    // After a batch of n tokens of that prompt; 0 if there is none.
    void after_batch(int32_t n);
    // After such a decode of embeddings, some of which are those of text tokens; before
    // after_decode().
    void set_last_kinds(int32_t slot, std::span<const token_kind> kind) {
        compressor_->kv().set_last_kinds(slot, kind);
    }
    // After a decode, even a failed one: the cells of all slots are visible again.
    void after_decode();
    // The slot's task has ended, or its prompt was given up.
    void give_up(int32_t task);
    // Before an answer continues with n tokens at position pos: if the slot's cells are all taken,
    // the older half of the answer is dropped.
    void before_answer(const slot_answer & answer, llama_pos pos, int32_t n);
    // Before the next n cells of the prompt are decoded: frees cells for them if it is read through
    // a cap.
    void make_room(const slot_prompt * p, int32_t n);
    // Largest number of an image's cells in one batch. whole: the image must be one batch.
    int32_t n_image_batch(int32_t n_batch, bool whole) const;
    // After a failed decode: throws the error of the observation, if there was one.
    void after_failure() { compressor_->tap().rethrow(); }
    // After the decode of a prompt's last token. Returns whether the prompt was compressed and what
    // is left depends on it alone: not on earlier turns, nor on a cap.
    bool finish(const slot_prompt & p);
    // Another slot, which serves another task, is about to get a copy of this one's cells.
    void share(const slot_prompt & from, int32_t slot, int32_t task);

    // A copy of what is known of the slots' last prompts.
    std::vector<prompt_cells> last_prompts() const { return records_.all(); }
    const metrics & numbers() const { return metrics_; }
    void update_gauges();

  private:
    struct slot_cap {
        int32_t n_cells = 0; // 0: no cap
        int32_t n_batch = 0;
    };

    bool repeats(const slot_prompt & p) const { return repeated_ && repeated_task_ == p.task; }
    void begin(const slot_prompt & p);
    void finish_repeated(const slot_prompt & p);

    llama_context * ctx_ = nullptr;
    std::unique_ptr<compressor> compressor_;
    slot_cap cap_;
    round_plan round_; // the last one planned
    turn_balance balance_;
    stopwatch since_plan_;
    int32_t observed_ = -1;                // task of the prompt that is observed
    compress_options options_;             // of that prompt
    std::optional<capped_reader> reading_; // that prompt, if it is read through the cap
    answer_cells answers_;
    slot_records records_;
    full_prefixes prefixes_;
    std::shared_ptr<const full_prefix> resumed_; // what the prompt of resumed_task_ goes on from
    int32_t resumed_task_ = -1;
    compressed_prompts compressed_;
    std::shared_ptr<const compressed_prompt> repeated_; // what the prompt of repeated_task_ repeats
    int32_t repeated_task_ = -1;
    metrics metrics_;
};

// The one of this process: llama-server has one loop.
hook & server_hook();

} // namespace lookm::server
