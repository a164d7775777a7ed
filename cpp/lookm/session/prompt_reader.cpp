#include "lookm/session/prompt_reader.h"

#include "lookm/core/stopwatch.h"
#include "lookm/host/at_work.h"
#include "lookm/host/log.h"
#include "lookm/host/memory_room.h"
#include "lookm/host/out_of_memory.h"
#include "lookm/prompt/pruned_images.h"
#include "lookm/session/joined_pieces.h"

#include "mtmd-helper.h"

#include <algorithm>
#include <span>
#include <stdexcept>
#include <utility>

namespace lookm {

namespace {

constexpr double seconds_between_reports = 0.1;

// How much of a prompt is done, as the user's function is told.
class reading_progress {
  public:
    reading_progress(const progress_fn & report, const prompt & p)
        : report_(report), n_tiles_(p.n_tiles()), n_cells_(p.n_cells()) {}

    void is_there(int n_cells, bool is_tile) { // from an earlier prompt
        cells_done_ += n_cells;
        tiles_done_ += is_tile;
    }
    void tiles(int n) { tell(phase::encode, tiles_done_ += n, n_tiles_); }
    void cells(int n) { tell(phase::prefill, cells_done_ += n, n_cells_); }
    bool is_due() const { return since_report_.seconds() >= seconds_between_reports; }

  private:
    void tell(phase p, int done, int total) {
        since_report_ = {};
        check_work_goes_on();
        if (report_) {
            report_(p, done, total);
        }
    }

    const progress_fn & report_;
    int n_tiles_, n_cells_;
    int tiles_done_ = 0, cells_done_ = 0;
    stopwatch since_report_ = {};
};

// While it lives, llama.cpp asks before every node of a graph whether to go on: the user may have
// had enough.
class stop_switch {
  public:
    stop_switch(sequence & s, reading_progress & progress) : sequence_(s), progress_(progress) {
        llama_set_abort_callback(sequence_.context().get(), asked, this);
    }
    ~stop_switch() { llama_set_abort_callback(sequence_.context().get(), nullptr, nullptr); }
    stop_switch(const stop_switch &) = delete;
    stop_switch & operator=(const stop_switch &) = delete;

  private:
    static bool asked(void * self) {
        auto & s = *static_cast<stop_switch *>(self);
        if (!s.progress_.is_due() && !work_is_stopped()) {
            return false;
        }
        try {
            s.progress_.cells(0);
        } catch (...) { // C code lies above: carry the exception around it
            s.sequence_.stop(std::current_exception());
            return true;
        }
        return false;
    }

    sequence & sequence_;
    reading_progress & progress_;
};

// Told by mtmd of each batch of an image that is in the cache: makes room for the next one.
struct image_batches {
    sequence & s;
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
            s.stop(std::current_exception());
            return 1;
        }
        return 0;
    }
};

void read_text(sequence & s, std::span<const llama_token> tokens, bool is_last,
               reading_progress & progress) {
    const auto n_tokens = static_cast<int32_t>(tokens.size());
    for (int32_t i = 0; i < n_tokens;) {
        const int32_t n = s.next_batch(n_tokens - i);
        s.make_room(n);
        const stopwatch watch;
        s.decode(tokens.data() + i, n,
                 is_last && i + n == n_tokens ? sequence::logits_of::last
                                              : sequence::logits_of::none);
        s.stats().prefill_seconds += watch.seconds();
        i += n;
        s.added(n);
        progress.cells(n);
    }
}

std::vector<int32_t> choose_cells(const opened_model & opened, const prompt & p,
                                  const prompt_chunk & chunk, std::span<const float> embeddings) {
    return cells_to_read(opened.weights.get(), chunk.whole, chunk.n_cells(), p.pruned,
                         embeddings.data(), p.question, opened.projector);
}

// What the encoder has made of an image, and which of its cells are read; none of these if all are.
struct encoded_cells {
    std::span<float> embeddings;
    std::vector<int32_t> cells;
};

encoded_cells encode(sequence & s, const prompt & p, const prompt_chunk & chunk,
                     reading_progress & progress) {
    check_room("an image");
    const stopwatch encode;
    const auto [embeddings, is_new] = s.encoded().of(s.opened().mmproj.get(), chunk);
    if (is_new) {
        s.stats().encode_seconds += encode.seconds();
    } else {
        s.stats().reused_image_cells += chunk.n_encoded();
    }
    progress.tiles(1);
    std::vector<int32_t> cells;
    if (chunk.whole) {
        const stopwatch prune;
        cells = choose_cells(s.opened(), p, chunk, embeddings);
        s.stats().prune_seconds += prune.seconds();
    }
    return {embeddings, std::move(cells)};
}

void read_image(sequence & s, const prompt_chunk & chunk, const encoded_cells & encoded,
                reading_progress & progress) {
    mtmd_context * const mmproj = s.opened().mmproj.get();
    const int32_t n = chunk.n_cells();
    const int32_t n_batch = s.next_batch(s.context().n_batch());
    s.make_room(std::min(n, n_batch));
    image_batches batches = {s, n};
    const double squeezed = s.stats().compress_seconds;
    const stopwatch prefill;
    llama_pos n_past = s.n_past();
    float * const rows = encoded.embeddings.data();
    const int32_t status =
        chunk.whole
            ? decode_cells(mmproj, s.context().get(), chunk.whole, encoded.cells, rows, n_past, 0,
                           n_batch, &n_past, image_batches::read, &batches)
            : mtmd_helper_decode_image_chunk(mmproj, s.context().get(), chunk.image, rows, n_past,
                                             0, n_batch, &n_past, image_batches::read, &batches);
    s.set_n_past(n_past);
    s.check_stopped();
    if (status != 0) {
        throw_logged<std::runtime_error>("prefill of an image failed: ");
    }
    s.stats().prefill_seconds += prefill.seconds() - (s.stats().compress_seconds - squeezed);
    progress.cells(n);
}

} // namespace

void read_prompt(sequence & s, const prompt & p, const progress_fn & report, size_t first,
                 size_t stop, const std::function<void(size_t)> & read) {
    reading_progress progress(report, p);
    const std::vector<prompt_piece> pieces = p.pieces();
    for (const prompt_piece & piece : std::span(pieces).first(first)) {
        const prompt_chunk & chunk = p.chunks[piece.chunk];
        progress.is_there(piece.n, chunk.image != nullptr);
        s.stats().reused_image_cells += chunk.n_encoded();
    }
    progress.cells(0);
    const stop_switch stopped(s, progress);
    joined_pieces joined(s, p, [&](int32_t n) { progress.cells(n); });
    const size_t question = p.n_pieces_before_question();
    for (size_t i = first; i < pieces.size(); ++i) {
        const auto [at, begin, n] = pieces[i];
        const prompt_chunk & chunk = p.chunks[at];
        const std::span<const llama_token> text =
            std::span(chunk.tokens).subspan(chunk.image ? 0 : begin, chunk.image ? 0 : n);
        const bool joins = i < question && joined.takes(pieces[i]);
        if (!joins || i == stop) {
            joined.finish();
        }
        if (read) {
            read(i);
        }
        if (chunk.image) {
            const encoded_cells encoded = encode(s, p, chunk, progress);
            if (joins) {
                joined.add(chunk, encoded.embeddings, encoded.cells);
            } else {
                read_image(s, chunk, encoded, progress);
            }
        } else if (joins) {
            joined.add(text);
        } else {
            read_text(s, text, i + 1 == pieces.size(), progress);
        }
    }
    joined.finish();
    if (read) {
        read(pieces.size());
    }
    session_stats & stats = s.stats();
    for (const prompt_chunk & chunk : p.chunks) {
        stats.image_cells += chunk.image ? chunk.n_cells() : 0;
        stats.encoded_cells += chunk.n_encoded();
        stats.text_cells += chunk.image ? 0 : chunk.n_cells() - chunk.n_context();
        stats.context_cells += chunk.n_context();
    }
    llama_synchronize(s.context().get());
    stats.prompt_cells = p.n_cells();
    stats.encode_images = p.n_images;
}

std::vector<int32_t> cells_read(sequence & s, const prompt & p, const prompt_chunk & chunk) {
    return choose_cells(s.opened(), p, chunk,
                        s.encoded().of(s.opened().mmproj.get(), chunk).embeddings);
}

std::vector<prompt_part> parts_of(const prompt & p, const mtmd_context * mmproj) {
    std::vector<prompt_part> parts;
    for (const prompt_chunk & chunk : p.chunks) {
        if (chunk.image) {
            parts.push_back({.n_cells = chunk.n_cells(),
                             .kind = token_kind::image,
                             .whole = mtmd_decode_use_non_causal(mmproj, chunk.image)});
            continue;
        }
        for (size_t i = 0; i < chunk.kind.size(); ++i) {
            if (i == 0 || chunk.kind[i] != chunk.kind[i - 1]) {
                parts.push_back({.n_cells = 0, .kind = chunk.kind[i]});
            }
            ++parts.back().n_cells;
        }
    }
    return parts;
}

} // namespace lookm
