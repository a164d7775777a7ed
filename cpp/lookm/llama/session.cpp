#include "lookm/llama/session.h"

#include "lookm/llama/log.h"
#include "lookm/llama/stopwatch.h"

#include "mtmd-helper.h"

#include <algorithm>
#include <sstream>
#include <stdexcept>
#include <utility>

namespace lookm {

namespace {

constexpr double seconds_between_reports = 0.1;

bool wants_compression(const kv_options & kv, const ratios & r) {
    const bool evicts = find_method(kv.method).evicts; // an unknown name is an error at any ratio
    return evicts && r.important + r.recent < 1.0;
}

} // namespace

struct session::progress_state {
    const progress_fn & report;
    int n_images, n_cells;
    int images_done = 0, cells_done = 0;

    stopwatch since_report = {};

    void images(int n) {
        images_done += n;
        tell(phase::encode, images_done, n_images);
    }
    void cells(int n) {
        cells_done += n;
        tell(phase::prefill, cells_done, n_cells);
    }
    void tell(phase p, int done, int total) {
        since_report = {};
        if (report) {
            report(p, done, total);
        }
    }
};

// While it lives, llama.cpp asks before every node of a graph whether to go on: the user may have had enough.
class session::stop_switch {
  public:
    stop_switch(session & s, progress_state & state) : session_(s), state_(state) {
        llama_set_abort_callback(session_.ctx_.get(), asked, this);
    }
    ~stop_switch() { llama_set_abort_callback(session_.ctx_.get(), nullptr, nullptr); }
    stop_switch(const stop_switch &) = delete;
    stop_switch & operator=(const stop_switch &) = delete;

  private:
    static bool asked(void * self) {
        auto & s = *static_cast<stop_switch *>(self);
        if (s.state_.since_report.seconds() < seconds_between_reports) {
            return false;
        }
        try {
            s.state_.cells(0);
        } catch (...) { // C code lies above: carry the exception around it
            s.session_.stopped_ = std::current_exception();
            return true;
        }
        return false;
    }

    session & session_;
    progress_state & state_;
};

session::session(const model_options & options) : options_(options), marker_(random_marker()) {
    model_ = load_model(options_);
    mmproj_ = load_mmproj(model_.get(), options_, marker_);
    ctx_ = make_context(model_.get(), options_);
    options_.n_batch = static_cast<int32_t>(llama_n_batch(ctx_.get())); // at most the n_ctx asked for
    // llama.cpp aborts on a decoder that waits for its encoder, and an embedding model has no next token to sample.
    if (llama_model_has_encoder(model_.get()) || !llama_get_memory(ctx_.get())) {
        throw std::invalid_argument("model_path: \"" + options_.model_path +
                                    "\" has an encoder or no memory of earlier tokens; expected a decoder-only model");
    }
    template_ = std::make_unique<chat_template>(model_.get());
    unsupported_ = kv_cache::unsupported(ctx_.get());
    if (unsupported_.empty()) {
        compressor_ = std::make_unique<compressor>(ctx_.get());
    }
}

session::~session() = default;

int32_t session::n_ctx() const {
    return static_cast<int32_t>(llama_n_ctx(ctx_.get()));
}

std::string session::model_name() const {
    char name[256] = {};
    llama_model_meta_val_str(model_.get(), "general.name", name, sizeof(name));
    return name;
}

void session::check(const kv_options & kv) const {
    const ratios r = split_ratio(kv.kv_ratio, kv.important_ratio, kv.recent_ratio);
    parse_text_overflow(kv.text_overflow);
    if (wants_compression(kv, r) && !unsupported_.empty()) {
        std::ostringstream ratio;
        ratio << kv.kv_ratio;
        throw std::invalid_argument("kv_ratio: " + ratio.str() + " asks for compression, but " + unsupported_ +
                                    " (kv_ratio 1 runs this model uncompressed)");
    }
}

void session::clear() {
    llama_memory_clear(llama_get_memory(ctx_.get()), false);
    pending_.reset();
    sampler_.reset();
    n_past_ = 0;
    ready_ = false;
}

void session::check_fits(const prompt & p) const {
    const int32_t n = p.n_cells();
    if (n == 0) {
        throw std::invalid_argument("messages: the prompt is empty");
    }
    if (n > n_ctx()) {
        throw std::invalid_argument("prompt: " + std::to_string(n) + " cells (" + std::to_string(p.n_images()) +
                                    " images) do not fit into n_ctx " + std::to_string(n_ctx()));
    }
    for (const prompt_chunk & c : p.chunks) {
        if (c.image && mtmd_decode_use_non_causal(mmproj_.get(), c.image) &&
            c.n_cells() > static_cast<int32_t>(llama_n_ubatch(ctx_.get()))) {
            throw std::invalid_argument("n_ubatch: " + std::to_string(llama_n_ubatch(ctx_.get())) +
                                        " is too small; this model needs at least the " + std::to_string(c.n_cells()) +
                                        " cells of one image");
        }
    }
}

void session::prefill(const std::string & text, std::span<const image_view> images, const kv_options & kv,
                      const progress_fn & progress) {
    check(kv);
    const prompt p = tokenize(model_.get(), mmproj_.get(), text, marker_, images);
    check_fits(p);
    const ratios r = split_ratio(kv.kv_ratio, kv.important_ratio, kv.recent_ratio);
    const bool tap = wants_compression(kv, r);
    stats_ = {};
    stats_.method = kv.method;
    clear();
    try {
        if (tap) {
            compressor_->tap().arm();
        }
        process(p, progress);
        compress(kv, progress);
        ready_ = true;
    } catch (...) {
        if (tap) {
            compressor_->tap().disarm();
        }
        clear();
        throw;
    }
}

void session::process(const prompt & p, const progress_fn & progress) {
    progress_state state{progress, p.n_images(), p.n_cells()};
    state.cells(0);
    const stop_switch stop(*this, state);
    for (size_t i = 0; i < p.chunks.size(); ++i) {
        const prompt_chunk & chunk = p.chunks[i];
        if (chunk.image) {
            process_image(chunk.image, state);
            stats_.image_cells += chunk.n_cells();
        } else {
            process_text(chunk.tokens, i + 1 == p.chunks.size(), state);
            stats_.text_cells += chunk.n_cells();
        }
    }
    llama_synchronize(ctx_.get());
    stats_.prompt_cells = p.n_cells();
    stats_.encode_images = p.n_images();
}

void session::process_text(const std::vector<llama_token> & tokens, bool last, progress_state & state) {
    const auto n_tokens = static_cast<int32_t>(tokens.size());
    for (int32_t i = 0; i < n_tokens; i += options_.n_batch) {
        const stopwatch watch;
        const int32_t n = std::min(options_.n_batch, n_tokens - i);
        decode(tokens.data() + i, n, last && i + n == n_tokens);
        stats_.prefill_seconds += watch.seconds();
        state.cells(n);
    }
}

void session::process_image(const mtmd_input_chunk * chunk, progress_state & state) {
    forget_errors();
    const stopwatch encode;
    if (mtmd_encode_chunk(mmproj_.get(), chunk) != 0) {
        throw std::runtime_error("image encoder failed: " + last_logged_error());
    }
    stats_.encode_seconds += encode.seconds();
    state.images(1);

    const stopwatch prefill;
    const int32_t status =
        mtmd_helper_decode_image_chunk(mmproj_.get(), ctx_.get(), chunk, mtmd_get_output_embd(mmproj_.get()), n_past_,
                                       0, options_.n_batch, &n_past_, nullptr, nullptr);
    check_stopped();
    if (status != 0) {
        throw std::runtime_error("prefill of an image failed: " + last_logged_error());
    }
    stats_.prefill_seconds += prefill.seconds();
    state.cells(static_cast<int>(mtmd_input_chunk_get_n_tokens(chunk)));
}

void session::check_stopped() {
    if (stopped_) {
        std::rethrow_exception(std::exchange(stopped_, nullptr));
    }
    if (compressor_) {
        compressor_->tap().rethrow();
    }
}

void session::decode(const llama_token * tokens, int32_t n, bool logits) {
    llama_batch batch = llama_batch_init(n, 0, 1);
    batch.n_tokens = n;
    for (int32_t i = 0; i < n; ++i) {
        batch.token[i] = tokens[i];
        batch.pos[i] = n_past_ + i;
        batch.n_seq_id[i] = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i] = logits && i + 1 == n;
    }
    forget_errors();
    const int32_t status = llama_decode(ctx_.get(), batch);
    llama_batch_free(batch);
    check_stopped();
    if (status != 0) {
        throw std::runtime_error("llama_decode failed with status " + std::to_string(status) + ": " +
                                 last_logged_error());
    }
    n_past_ += n;
}

void session::compress(const kv_options & kv, const progress_fn & progress) {
    const ratios r = split_ratio(kv.kv_ratio, kv.important_ratio, kv.recent_ratio);
    stats_.kept_cells = stats_.prompt_cells;
    const size_t per_cell = compressor_ ? compressor_->kv().bytes_per_cell() : 0;
    const size_t allocated = compressor_ ? compressor_->kv().bytes_allocated() : 0;
    stats_.bytes_used_before = stats_.bytes_used_after = per_cell * stats_.prompt_cells;
    stats_.bytes_allocated_before = stats_.bytes_allocated_after = allocated;
    if (!wants_compression(kv, r)) {
        stats_.note =
            find_method(kv.method).evicts ? "kv_ratio 1 keeps the full cache" : "method origin keeps the full cache";
        return;
    }
    const auto report = [&](int done, int total) {
        if (progress) {
            progress(phase::compress, done, total);
        }
    };
    const compress_options options = {&find_method(kv.method), r, parse_text_overflow(kv.text_overflow)};
    const compress_result result = compressor_->compress(0, options, report);
    stats_.kept_cells = result.n_keep;
    stats_.note = result.note;
    stats_.bytes_used_after = per_cell * compressor_->kv().n_used();
    stats_.bytes_allocated_after = compressor_->kv().bytes_allocated();
    stats_.compress_bytes_peak = result.peak_bytes;
    stats_.compress_seconds = result.seconds;
    stats_.score_seconds = compressor_->tap().seconds();
    stats_.prefill_seconds -= stats_.score_seconds; // the tap runs inside it
}

} // namespace lookm
