#include "lookm/session/session.h"

#include "lookm/core/bad_argument.h"
#include "lookm/core/stopwatch.h"
#include "lookm/host/at_work.h"
#include "lookm/host/memory_room.h"
#include "lookm/model/flash_attn.h"
#include "lookm/session/memory_check.h"
#include "lookm/session/prompt_copy.h"

#include <algorithm>
#include <sstream>
#include <stdexcept>
#include <utility>

namespace lookm {

namespace {

constexpr int64_t least_compute_bytes = 1 << 20;
constexpr int64_t most_compute_bytes = int64_t(1) << 40;

const model_options & checked(const model_options & options) {
    check_compute_bytes(options.compute_bytes);
    return options;
}

const model_options & fitting(const model_options & options) {
    check_memory(options);
    return options;
}

} // namespace

bool evicts(const compress_options & o) {
    return o.method.evicts && o.ratios.important + o.ratios.recent < 1.0;
}

compress_options checked(const compression & how) {
    return {resolve(how), split(how)};
}

void check_supported(const compression & how, const std::string & unsupported) {
    if (evicts(checked(how)) && !unsupported.empty()) {
        std::ostringstream ratio;
        ratio << how.kv_ratio;
        throw bad_argument("kv_ratio", ratio.str() + " asks for compression, but " + unsupported +
                                           " (kv_ratio 1 runs this model uncompressed)");
    }
}

void check_squeezes(const method & m, int32_t n_cells, int32_t cap) {
    if (!m.evicts || needs_squares(m)) {
        throw bad_argument("kv_cells",
                           "a prompt of " + std::to_string(n_cells) +
                               " cells and its answer do not fit into " + std::to_string(cap) +
                               ", and method " + m.name +
                               (m.evicts ? " needs the attention of all queries to all cells"
                                         : " evicts nothing") +
                               "; expected more cells, or another method");
    }
}

void check_ends_with_text(const prompt & p) {
    if (p.chunks.back().image) { // mtmd asks for no logits of an image
        throw bad_argument("messages", "the prompt ends with an image; expected text after it");
    }
}

void check_compute_bytes(int64_t compute_bytes) {
    if (compute_bytes < least_compute_bytes || compute_bytes > most_compute_bytes) {
        throw bad_argument("compute_bytes", std::to_string(compute_bytes) + ", expected " +
                                                std::to_string(least_compute_bytes) +
                                                " (1 MiB) to " +
                                                std::to_string(most_compute_bytes) + " (1 TiB)");
    }
}

void check_ubatch(const prompt & p, const mtmd_context * mmproj, const model_options & options) {
    const int32_t n_at_once = std::min(options.n_batch, options.n_ubatch);
    for (const prompt_chunk & c : p.chunks) {
        if (c.image && mtmd_decode_use_non_causal(mmproj, c.image) && c.n_cells() > n_at_once) {
            throw bad_argument(options.n_batch < options.n_ubatch ? "n_batch" : "n_ubatch",
                               std::to_string(n_at_once) +
                                   " is too small; this model needs at least the " +
                                   std::to_string(c.n_cells()) + " cells of one image");
        }
    }
}

void check_decoder_only(const llama_model * model, const llama_context * ctx,
                        const model_options & options) {
    // llama.cpp aborts on a decoder that waits for its encoder, and an embedding model has no next
    // token to sample.
    if (llama_model_has_encoder(model) || !llama_get_memory(ctx)) {
        throw bad_argument(
            "model_path",
            "\"" + options.model_path +
                "\" has an encoder or no memory of earlier tokens; expected a decoder-only model");
    }
}

session::session(const model_options & options)
    : session(options, load_shared_model(fitting(checked(options)))) {}

session::session(const model_options & options, const session & other)
    : session(checked(options), other.model_) {
    if (options.model_path != other.options_.model_path) {
        throw bad_argument("model_path", "\"" + options.model_path + "\" for the weights of \"" +
                                             other.options_.model_path +
                                             "\"; expected the same file");
    }
}

session::session(const model_options & options, std::shared_ptr<llama_model> model)
    : options_(options), generation_(fork_generation()),
      on_devices_(lies_on_devices(options.rpc_servers)), model_(std::move(model)),
      markers_(random_markers()) {
    mmproj_ = load_mmproj(model_.get(), options_, markers_.image);
    if (better_without_flash(model_.get(), options_)) {
        options_.flash_attn = "off";
    }
    room_ = std::make_unique<sized_context>(model_.get(), options_);
    check_decoder_only(model_.get(), room_->get(), options_);
    template_ =
        std::make_unique<chat_template>(model_.get(), options_.model_path, options_.chat_template);
}

session::~session() = default;

void session::check_forked() const {
    check_forked_at_rest();
    if (on_devices_ && generation_ != fork_generation()) {
        throw std::runtime_error(
            "this process was forked, and the model of its parent lies on a device or an RPC "
            "server that the parent goes on with" +
            std::string(instead_of_fork));
    }
}

bool session::may_be_freed() const {
    return generation_ == fork_generation() || (forked_at_rest() && !on_devices_);
}

bool session::scores_all_queries(const compression & how) {
    const compress_options o = checked(how);
    return evicts(o) && o.method.scorer == scorer::cumulative;
}

std::string session::model_name() const {
    char name[256] = {};
    llama_model_meta_val_str(model_.get(), "general.name", name, sizeof(name));
    return name;
}

void session::check(const compression & how) const {
    check_supported(how, room_->unsupported());
}

void session::clear() {
    ++epoch_;
    if (read_room_) {
        room_ = std::move(read_room_);
    }
    room_->clear();
    pending_.reset();
    sampler_.reset();
    prompt_logits_.clear();
    reading_.reset();
    talking_ = false;
    n_past_ = 0;
    answer_from_here();
    ready_ = false;
    stopped_ = nullptr;
    copy_.reset();
    explanation_.reset();
}

void session::abandon() {
    if (room_->compressor()) {
        room_->compressor()->tap().disarm();
        room_->compressor()->tap().drop_error();
    }
    clear();
}

// Empties the context and makes room for a prompt that is to be compressed like this, maybe read
// through a cap.
void session::begin(const compress_options & options, int32_t n_room,
                    std::optional<prompt_cap> cap) {
    stats_ = {};
    stats_.method = options.method.name;
    clear();
    reading_ = std::move(cap);
    room_->open(n_room);
    if (reading_) {
        room_->compressor()->observe_all(options);
    } else if (evicts(options)) {
        room_->compressor()->observe(options);
    } else if (room_->compressor()) {
        room_->compressor()->observe_nothing();
    }
}

void session::check_fits(const prompt & p) const {
    const int32_t n = p.n_cells();
    if (n == 0) {
        throw bad_argument("messages", "the prompt is empty");
    }
    if (n > n_ctx()) {
        throw bad_argument("prompt", std::to_string(n) + " cells (" + std::to_string(p.n_images) +
                                         " images) do not fit into n_ctx " +
                                         std::to_string(n_ctx()));
    }
    check_ubatch(p, mmproj_.get(), options_);
}

void session::prefill(const std::string & text, std::span<const image_source> images,
                      std::span<const std::string> contexts, const compression & how,
                      int32_t n_answer, const progress_fn & progress) {
    check(how);
    const prompt p = tokenize(model_.get(), mmproj_.get(), text, markers_, images, contexts);
    check_fits(p);
    check_ends_with_text(p);
    compress_options options = checked(how);
    options.kind = p.kinds();
    options.explain = explains_;
    n_answer = std::clamp(n_answer, 0, n_ctx());
    std::optional<prompt_cap> cap = through_cap(p, options, n_answer);
    if (cap && explains_) {
        throw bad_argument("kv_cells",
                           "a prompt that is read through the cap loses cells while it is read and "
                           "cannot be explained; expected at least its " +
                               std::to_string(p.n_cells()) + " cells");
    }
    try {
        // with compression the answer's cells are found among those that it frees
        begin(options, p.n_cells() + (evicts(options) ? 0 : n_answer), std::move(cap));
        if (explains_) {
            explanation_ = explain_prompt(model_.get(), mmproj_.get(), options_.mmproj_path,
                                          markers_.image, p);
        }
        process(p, progress);
        compress(options, progress);
        shrink(n_answer);
        answer_from_here();
        ready_ = true;
    } catch (...) {
        abandon();
        throw;
    }
}

void session::compress(compress_options options, const progress_fn & progress) {
    if (reading_) {
        options.n_prompt = stats_.prompt_cells;
        options.kind = reading_->kinds();
        const int32_t n_keep =
            evicts(options) ? budget_of(options, options.kind).n_keep() : reading_->n_held();
        if (n_keep + reading_->n_answer() > room_->cap()) {
            make_room(reading_->n_answer());
            options.kind = reading_->kinds();
        }
    }
    stats_.kept_cells = stats_.prompt_cells - stats_.squeezed_cells;
    stats_.kept_of = {stats_.text_cells, stats_.image_cells, stats_.context_cells};
    check_room("compression");
    compressor * const compressor = room_->compressor();
    const size_t per_cell = compressor ? compressor->kv().bytes_per_cell() : 0;
    stats_.bytes_used_before = stats_.bytes_used_after = per_cell * stats_.kept_cells;
    stats_.bytes_allocated_before = stats_.bytes_allocated_after = room_->bytes();
    if (reading_) {
        stats_.score_seconds = compressor->score_seconds();
        stats_.compress_bytes_peak = compressor->peak_bytes();
        stats_.kept_of = compressor->count(0, reading_->kinds());
    }
    if (!evicts(options)) {
        stats_.prefill_seconds -= stats_.score_seconds; // the tap runs inside it
        stats_.note = !options.method.evicts       ? "method origin keeps the full cache"
                      : stats_.squeezed_cells == 0 ? "kv_ratio 1 keeps the full cache"
                                                   : "";
        if (compressor) {
            compressor->tap().disarm();
        }
        return;
    }
    const auto report = [&](int done, int total) {
        if (progress) {
            progress(phase::compress, done, total);
        }
    };
    compress_result result = compressor->compress(0, options, report);
    stats_.kept_cells = result.n_keep;
    stats_.kept_of = result.kept_of;
    stats_.note = result.note.empty()          ? result.warning
                  : stats_.squeezed_cells == 0 ? result.note
                                               : "";
    stats_.bytes_used_after = per_cell * compressor->kv().n_used();
    stats_.compress_bytes_peak = result.peak_bytes;
    stats_.compress_seconds += result.seconds;
    stats_.score_seconds = result.score_seconds;
    stats_.prefill_seconds -= stats_.score_seconds; // the tap runs inside it
    if (explanation_) {
        explanation_->take(std::move(result), compressor->kv().layers());
    }
}

void session::shrink(int32_t n_answer) {
    const auto kept = room_->n_used();
    if (!kept || (*kept == stats_.prompt_cells && !reading_ && !room_->keeps_other_types())) {
        return; // opened in the right size
    }
    const stopwatch watch;
    const float * logits = llama_get_logits_ith(room_->get(), -1);
    prompt_logits_.assign(logits,
                          logits + llama_vocab_n_tokens(llama_model_get_vocab(model_.get())));
    room_->move(*kept + n_answer);
    stats_.bytes_used_after = room_->bytes_per_cell() * stats_.kept_cells;
    stats_.bytes_allocated_after = room_->bytes();
    stats_.move_seconds = watch.seconds();
}

} // namespace lookm
