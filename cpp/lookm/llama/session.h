#pragma once

#include "lookm/core/budget.h"
#include "lookm/llama/compressor.h"
#include "lookm/llama/model.h"
#include "lookm/llama/prompt.h"

#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

namespace lookm {

// How one prompt is compressed, as the user says it. kv_ratio 1 or method origin: not at all; both shares together say
// more than kv_ratio and replace it.
struct kv_options {
    double kv_ratio = 1.0;
    std::string method = "text_prior_pivot_merge";
    std::optional<double> important_ratio;
    std::optional<double> recent_ratio;
    std::string text_overflow = "keep";
};

struct sampling_options {
    float temperature = 0.2f; // 0: greedy
    float top_p = 0.95f;
    int32_t top_k = 40;
    float min_p = 0.05f;
    float repeat_penalty = 1.0f;
    float frequency_penalty = 0.0f;
    float presence_penalty = 0.0f;
    uint32_t seed = LLAMA_DEFAULT_SEED;
};

// What happened to the last prompt: counts in cells, sizes in bytes, times in seconds.
struct session_stats {
    int32_t prompt_cells = 0, text_cells = 0, image_cells = 0, kept_cells = 0;
    std::string method, note;
    size_t bytes_used_before = 0, bytes_used_after = 0;
    size_t bytes_allocated_before = 0, bytes_allocated_after = 0;
    size_t compress_bytes_peak = 0;
    double encode_seconds = 0, prefill_seconds = 0, score_seconds = 0, compress_seconds = 0, decode_seconds = 0;
    int32_t encode_images = 0, decode_tokens = 0;
};

enum class phase { encode, prefill, compress };

// Called between steps, and ten times a second within long ones; what it throws stops the work and comes out of
// prefill(), and the session is empty again.
using progress_fn = std::function<void(phase, int done, int total)>;

// One model, one context, one conversation at a time. Not thread-safe: callers serialise.
class session {
  public:
    explicit session(const model_options & options);
    ~session();

    const std::string & marker() const { return marker_; }
    int32_t n_ctx() const;
    std::string model_name() const;
    std::string apply_template(const std::string & messages) const { return template_->apply(messages); }

    // Throws std::invalid_argument for an option that is wrong, or a model that cannot be compressed.
    void check(const kv_options & kv) const;

    // Forgets the last prompt, processes this one (one marker per image) and compresses its cells.
    // Logits of the prompt's last token are those of the full cache.
    void prefill(const std::string & text, std::span<const image_view> images, const kv_options & kv,
                 const progress_fn & progress = {});

    void start(const sampling_options & sampling); // an answer to the last prompt begins
    // One more token: its text, possibly half a UTF-8 character; nullopt at the end of the answer. Throws
    // std::runtime_error when no cell is free.
    std::optional<std::string> next();
    bool can_continue() const; // whether a cell is free for another token

    const session_stats & stats() const { return stats_; }

  private:
    struct progress_state;
    class stop_switch;

    void clear();
    void check_fits(const prompt & p) const;
    void process(const prompt & p, const progress_fn & progress);
    void process_text(const std::vector<llama_token> & tokens, bool last, progress_state & state);
    void process_image(const mtmd_input_chunk * chunk, progress_state & state);
    void check_stopped(); // rethrows what a callback inside llama.cpp has thrown
    void decode(const llama_token * tokens, int32_t n, bool logits);
    void compress(const kv_options & kv, const progress_fn & progress);

    model_options options_;
    llama_model_ptr model_;
    llama_context_ptr ctx_;
    std::string marker_;
    mtmd::context_ptr mmproj_;
    std::unique_ptr<chat_template> template_;
    std::string unsupported_;                // why this model cannot be compressed, "" when it can
    std::unique_ptr<compressor> compressor_; // null where unsupported
    llama_sampler_ptr sampler_;              // null: no answer is under way
    std::optional<llama_token> pending_;     // sampled, not yet in the cache
    llama_pos n_past_ = 0;
    bool ready_ = false;         // a prompt is in the cache, and no answer to it has been started
    std::exception_ptr stopped_; // thrown by progress inside llama.cpp's C code
    session_stats stats_;
};

} // namespace lookm
