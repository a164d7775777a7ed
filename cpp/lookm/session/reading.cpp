// The part of a session that reads a prompt into the cache.

#include "lookm/core/stopwatch.h"
#include "lookm/host/at_work.h"
#include "lookm/host/log.h"
#include "lookm/host/memory_room.h"
#include "lookm/host/out_of_memory.h"
#include "lookm/session/session.h"

#include "mtmd-helper.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace lookm {

namespace {

constexpr double seconds_between_reports = 0.1;

} // namespace

struct session::progress_state {
    const progress_fn & report;
    int n_tiles, n_cells;
    int tiles_done = 0, cells_done = 0;

    stopwatch since_report = {};

    void tiles(int n) {
        tiles_done += n;
        tell(phase::encode, tiles_done, n_tiles);
    }
    void cells(int n) {
        cells_done += n;
        tell(phase::prefill, cells_done, n_cells);
    }
    void tell(phase p, int done, int total) {
        since_report = {};
        check_work_goes_on();
        if (report) {
            report(p, done, total);
        }
    }
};

// While it lives, llama.cpp asks before every node of a graph whether to go on: the user may have
// had enough.
class session::stop_switch {
  public:
    stop_switch(session & s, progress_state & state) : session_(s), state_(state) {
        llama_set_abort_callback(session_.room_->get(), asked, this);
    }
    ~stop_switch() { llama_set_abort_callback(session_.room_->get(), nullptr, nullptr); }
    stop_switch(const stop_switch &) = delete;
    stop_switch & operator=(const stop_switch &) = delete;

  private:
    static bool asked(void * self) {
        auto & s = *static_cast<stop_switch *>(self);
        if (s.state_.since_report.seconds() < seconds_between_reports && !work_is_stopped()) {
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

// Told by mtmd of each batch of an image that is in the cache: makes room for the next one.
struct session::image_batches {
    session & s;
    int32_t n_left;

    static int32_t read(const mtmd_helper_embd_batch * batch, void * self) {
        auto & [s, n_left] = *static_cast<image_batches *>(self);
        try {
            s.added(batch->n_tokens);
            n_left -= batch->n_tokens;
            if (n_left > 0) {
                s.make_room(s.next_batch(n_left));
            }
        } catch (...) { // C code lies above: carry the exception around it
            if (!s.stopped_) {
                s.stopped_ = std::current_exception();
            }
            return 1;
        }
        return 0;
    }
};

// A new part begins at cell split_at, too.
std::vector<prompt_part> session::parts_of(const prompt & p, prior prior, int32_t split_at) const {
    std::vector<prompt_part> parts;
    int32_t n = 0;
    for (const prompt_chunk & chunk : p.chunks) {
        if (chunk.image) {
            parts.push_back({chunk.n_cells(), token_kind::image, true,
                             mtmd_decode_use_non_causal(mmproj_.get(), chunk.image)});
            n += chunk.n_cells();
            continue;
        }
        for (size_t i = 0; i < chunk.kind.size(); ++i, ++n) {
            if (i == 0 || n == split_at || chunk.kind[i] != chunk.kind[i - 1]) {
                parts.push_back(
                    {0, chunk.kind[i], prior == prior::none || chunk.kind[i] == token_kind::image});
            }
            ++parts.back().n_cells;
        }
    }
    return parts;
}

std::optional<prompt_cap> session::through_cap(const prompt & p, const compress_options & options,
                                               int32_t n_answer) {
    const int32_t cap = room_->cap();
    if (cap == 0 || p.n_cells() + prompt_cap::answer_share(cap, n_answer) <= cap) {
        return std::nullopt;
    }
    check_squeezes(options.method, p.n_cells(), cap);
    const int32_t forget_at =
        first_query(options.method, budget_of(options, options.kind), options.kind);
    prompt_cap plan(parts_of(p, options.method.prior, forget_at), cap, options_.n_batch,
                    n_answer); // may refuse it
    squeezing_ = options;
    forget_scores_at_ = forget_at;
    return plan;
}

void session::make_room(int32_t n) {
    if (!reading_) {
        return;
    }
    const int32_t n_held = reading_->n_held();
    const int32_t n_read = n_held + stats_.squeezed_cells;
    squeeze(n_held, [&] { return reading_->room_for(n); });
    // not before: until its queries come there are no scores to shrink by
    if (forget_scores_at_ > 0 && n_read <= forget_scores_at_ && forget_scores_at_ < n_read + n) {
        room_->compressor()->tap().forget(forget_scores_at_ - n_read);
    }
}

void session::squeeze(int32_t n_held, const std::function<std::vector<cell_run>()> & plan) {
    squeezing_.kind = reading_->kinds();
    const std::vector<cell_run> runs = plan();
    if (runs.empty()) {
        return;
    }
    const stopwatch watch;
    try {
        room_->compressor()->squeeze(0, squeezing_, runs);
    } catch (...) {
        check_stopped(); // in one of its graphs
        throw;
    }
    room_->compressor()->resume();
    stats_.squeezed_cells += n_held - reading_->n_held();
    stats_.compress_seconds += watch.seconds();
}

void session::added(int32_t n) {
    if (reading_) {
        reading_->add(n);
    }
}

int32_t session::next_batch(int32_t n_left) const {
    return std::min(n_left, reading_ ? reading_->n_next() : room_->n_batch());
}

void session::process(const prompt & p, const progress_fn & progress) {
    progress_state state{progress, p.n_tiles(), p.n_cells()};
    state.cells(0);
    const stop_switch stop(*this, state);
    for (size_t i = 0; i < p.chunks.size(); ++i) {
        const prompt_chunk & chunk = p.chunks[i];
        if (chunk.image) {
            process_image(chunk.image, state);
            stats_.image_cells += chunk.n_cells();
        } else {
            process_text(chunk.tokens, i + 1 == p.chunks.size(), state);
            stats_.text_cells += chunk.n_cells() - chunk.n_context();
            stats_.context_cells += chunk.n_context();
        }
    }
    llama_synchronize(room_->get());
    stats_.prompt_cells = p.n_cells();
    stats_.encode_images = p.n_images;
}

void session::process_text(const std::vector<llama_token> & tokens, bool last,
                           progress_state & state) {
    const auto n_tokens = static_cast<int32_t>(tokens.size());
    for (int32_t i = 0; i < n_tokens;) {
        const int32_t n = next_batch(n_tokens - i);
        make_room(n);
        const stopwatch watch;
        decode(tokens.data() + i, n, last && i + n == n_tokens);
        stats_.prefill_seconds += watch.seconds();
        i += n;
        added(n);
        state.cells(n);
    }
}

void session::process_image(const mtmd_input_chunk * chunk, progress_state & state) {
    check_room("an image");
    forget_errors();
    const stopwatch encode;
    if (mtmd_encode_chunk(mmproj_.get(), chunk) != 0) {
        throw_logged<std::runtime_error>("image encoder failed: ");
    }
    stats_.encode_seconds += encode.seconds();
    state.tiles(1);

    const auto n = static_cast<int32_t>(mtmd_input_chunk_get_n_tokens(chunk));
    const int32_t n_batch = next_batch(room_->n_batch());
    make_room(std::min(n, n_batch));
    image_batches batches = {*this, n};
    const double squeezed = stats_.compress_seconds;
    const stopwatch prefill;
    const int32_t status = mtmd_helper_decode_image_chunk(
        mmproj_.get(), room_->get(), chunk, mtmd_get_output_embd(mmproj_.get()), n_past_, 0,
        n_batch, &n_past_, image_batches::read, &batches);
    check_stopped();
    if (status != 0) {
        throw_logged<std::runtime_error>("prefill of an image failed: ");
    }
    stats_.prefill_seconds += prefill.seconds() - (stats_.compress_seconds - squeezed);
    state.cells(n);
}

void session::check_stopped() {
    if (work_is_stopped() && !stopped_) {
        stopped_ = std::make_exception_ptr(work_stopped());
    }
    if (stopped_) {
        if (room_->compressor()) {
            room_->compressor()->tap().drop_error(); // its graph was stopped
        }
        std::rethrow_exception(std::exchange(stopped_, nullptr));
    }
    if (room_->compressor()) {
        room_->compressor()->tap().rethrow();
    }
}

void session::decode(const llama_token * tokens, int32_t n, bool logits) {
    check_room("reading " + std::to_string(n) + (n == 1 ? " token" : " tokens"));
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
    const int32_t status = llama_decode(room_->get(), batch);
    llama_batch_free(batch);
    check_stopped();
    if (status != 0) {
        throw_logged<std::runtime_error>("llama_decode failed with status " +
                                         std::to_string(status) + ": ");
    }
    n_past_ += n;
}

} // namespace lookm
