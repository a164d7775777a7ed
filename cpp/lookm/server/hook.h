#pragma once

#include "lookm/cache/capped_reader.h"
#include "lookm/core/turns.h"

#include "llama.h"

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace lookm::server {

// A prompt in a slot of llama-server, as far as compression cares. The slot's id is the id of its
// sequence.
struct slot_prompt {
    int32_t slot;
    int32_t task;     // llama-server's number of the request
    int32_t n_tokens; // of the whole prompt; one cell each
    bool has_image;
    double ratio; // share to keep
    // What each token is, from the first one on that is not packed yet; asked for when it is
    // observed.
    std::function<std::vector<token_kind>(packed_cells)> kind;
    // Its images and the text between them; asked for when it may be read through a cap.
    std::function<std::vector<prompt_part>()> parts;
};

// Cells of a slot as llama-server sees them: of its tokens, those up to a position.
struct slot_tokens {
    int32_t n;
    std::function<int32_t(llama_pos)> n_up_to;
};

// Cells of a prompt before and after its compression.
struct prompt_cells {
    int32_t task = -1;
    int32_t prompt = 0;
    int32_t kept = 0;
};

// What /metrics shows.
struct counters {
    uint64_t prompts = 0; // compressed ones
    uint64_t cells_before = 0;
    uint64_t cells_after = 0;
    double seconds = 0.0;
};

// Compression beside llama-server's loop. context.cpp calls it around each decode, from the one
// thread that decodes; counts() and the gauges may be read from others.
//
// Prompts that will be compressed come one after another: the scores of the one under way are the
// only ones there are, and at most one such prompt is in the cache at its full length. It is read
// by itself, in batches that hold no other rows and into cells of its own (compressor::isolate), so
// that what is kept of it does not depend on its neighbours. context.cpp sees to that.
class hook {
  public:
    // Throws std::invalid_argument when the context's memory cannot be compressed. The context must
    // outlive the hook's use of it, not the hook.
    void attach(llama_context * ctx);
    bool attached(const llama_context * ctx) const { return compressor_ && ctx == ctx_; }

    // Whether this prompt is to be compressed, as far as one can know before it is processed.
    bool wants(const slot_prompt & p) const;
    // Whether its attention is summed up while it is read: to compress it, or to read it through
    // the slot's cells.
    bool observes(const slot_prompt & p) const { return wants(p) || exceeds(p); }
    // Whether the slot's cells, of these tokens, may be the prefix of this prompt; n_common tokens
    // are the same. Cells of a prompt that was not compressed may not be where this one is to be:
    // the attention of their tokens was not summed up. Nor may cells of tokens of which some have
    // none any more.
    bool may_reuse(const slot_prompt & p, int32_t n_common, const slot_tokens & held) const;

    // Each slot has n cells for a prompt and its answer (--kv-cells), and n_batch of them come at
    // once.
    void cap(int32_t n, int32_t n_batch);
    bool capped() const { return slot_cells_ > 0; }
    int32_t slot_cells() const { return slot_cells_; }
    // Why this prompt cannot be read at all, in an empty slot or one whose cells it goes on from;
    // "" when it can.
    std::string refusal(const slot_prompt & p, bool empty) const;

    // Whether this slot's prompt, of that task, went on from compressed cells and never came to its
    // end: its own cells have no scores then that another prompt could go on with.
    bool is_half_read(int32_t slot, int32_t task) const;
    int32_t n_cells() const { return compressor_->kv().n_cells(); }
    int32_t n_free() const { return n_cells() - compressor_->kv().n_used(); }
    int32_t n_used(int32_t slot) const { return compressor_->kv().n_used_by(slot); }
    int32_t n_used_alone(int32_t slot) const { return compressor_->kv().n_used_alone_by(slot); }

    // Plans the next round, which the reader is valid for.
    const round_plan & plan_next(const std::vector<slot_view> & slots, const cache_view & cache);
    // Whether this slot's prompt is the observed one that is read in this round.
    bool is_reader(int32_t slot) const { return slot == round_.reader; }

    // Around a decode: the prompt under way that it goes on with by n tokens, or nullptr for none;
    // no other rows come with it. Without a prompt nothing is observed.
    void before_decode(const slot_prompt * p, int32_t n = 0);
    // After a batch of n tokens of the prompt that was given last, 0 without one.
    void after_batch(int32_t n);
    // However the decode ended: the cells of all slots show again.
    void after_decode();
    // The slot's task has ended, or its prompt was given up.
    void give_up(int32_t task);
    // Before an answer goes on by n tokens from position pos, its first one being at begin: where
    // the slot's cells are all taken, the older half of the answer makes room.
    void before_answer(int32_t slot, int32_t task, llama_pos begin, llama_pos pos, int32_t n);
    // Before the next n cells of the prompt are decoded: room for them, where it is read through a
    // cap.
    void make_room(const slot_prompt * p, int32_t n);
    // Cells of an image that may come at once.
    int32_t n_image_batch(int32_t n_batch, bool whole) const;
    // After a decode that failed: throws what the observation may have thrown, or returns.
    void after_failure() { compressor_->tap().rethrow(); }
    // After the decode of a prompt's last token.
    void finish(const slot_prompt & p);
    // Another slot, busy with another task, is about to get a copy of this one's cells.
    void share(const slot_prompt & from, int32_t slot, int32_t task);

    // Of the slots' last prompts: a copy that stays right when slots go on.
    std::vector<prompt_cells> last_prompts() const;
    counters count() const;
    void update_gauges();
    int32_t gauge_used() const { return gauge_used_; }
    int32_t gauge_allocated() const { return gauge_allocated_; }

  private:
    bool exceeds(const slot_prompt & p) const; // the slot's cells
    void begin(const slot_prompt & p);
    void remember(const slot_prompt & p);

    llama_context * ctx_ = nullptr;
    std::unique_ptr<compressor> compressor_;
    int32_t observed_ = -1;    // task of the prompt whose attention the tap has summed up
    compress_options options_; // of that prompt
    round_plan round_;         // the last one planned
    int32_t slot_cells_ = 0;   // 0: no cap
    int32_t n_batch_ = 0;
    std::optional<capped_reader> reading_; // that prompt, if it is read through the cap
    std::map<int32_t, std::pair<int32_t, llama_pos>>
        answer_by_slot_; // task, and where its answer now begins

    std::map<int32_t, prompt_cells> by_slot_;
    // Packed cells carry no mark of the ratio they were made with, and they move (slot files,
    // prompt cache). Position and number of the packed cells tell; ratios that keep as many are
    // one.
    std::map<std::pair<llama_pos, int32_t>, std::vector<double>> ratios_by_shape_;

    mutable std::mutex mutex_;
    counters counters_;
    std::atomic<int32_t> gauge_used_ = 0;
    std::atomic<int32_t> gauge_allocated_ = 0;
};

hook & the_hook();

} // namespace lookm::server
