#include "lookm/session/sequence.h"

#include "lookm/core/stopwatch.h"
#include "lookm/host/at_work.h"
#include "lookm/host/log.h"
#include "lookm/host/memory_room.h"
#include "lookm/host/out_of_memory.h"
#include "lookm/session/checks.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace lookm {

sequence::sequence(const opened_model & opened)
    : opened_(opened),
      context_(std::make_unique<sized_context>(opened.weights.get(), opened.options)),
      encoded_(static_cast<size_t>(opened.options.image_cache),
               llama_model_n_embd_inp(opened.weights.get())) {
    check_decoder_only(opened.weights.get(), context_->get(), opened.options);
}

void sequence::clear() {
    context_->clear();
    reader_.reset();
    keeps_ = turns::none;
    n_past_ = 0;
    kept_logits_.clear();
    stopped_ = nullptr;
}

std::unique_ptr<sized_context> sequence::exchange(std::unique_ptr<sized_context> context) {
    return std::exchange(context_, std::move(context));
}

void sequence::begin(const compress_options & options, int32_t n_cells,
                     std::optional<capped_reader> reader) {
    stats_ = {};
    stats_.method = options.method.name;
    sums_are_whole_ = false;
    reader_ = std::move(reader);
    context_->open(n_cells);
    if (reader_) {
        reader_->begin(*compressor(), 0);
    } else if (evicts(options)) {
        compressor()->observe(options);
        sums_are_whole_ = compressor()->observed() && compressor()->tap().plan().first_query == 0;
    } else if (compressor()) {
        compressor()->observe_nothing();
    }
}

void sequence::set_reader(capped_reader reader) {
    reader_ = std::move(reader);
    if (compressor()) {
        reader_->attach(*compressor(), 0);
    }
}

int32_t sequence::next_batch(int32_t n_left) const {
    return std::min(n_left, reader_ ? reader_->plan().n_next() : context_->n_batch());
}

int32_t sequence::n_before_squeeze() const {
    return reader_ ? reader_->plan().cap() - reader_->plan().n_held() : INT32_MAX;
}

template <class Squeeze>
void sequence::squeeze(Squeeze && squeeze) {
    const int32_t n_before = reader_->n_squeezed();
    const double seconds_before = reader_->seconds();
    try {
        squeeze();
    } catch (...) {
        check_stopped(); // in one of its graphs
        throw;
    }
    stats_.squeezed_cells += reader_->n_squeezed() - n_before;
    stats_.compress_seconds += reader_->seconds() - seconds_before;
}

void sequence::make_room(int32_t n) {
    if (reader_) {
        squeeze([&] { reader_->make_room(n); });
    }
}

void sequence::leave(int32_t n_most) {
    squeeze([&] { reader_->leave(n_most); });
}

void sequence::added(int32_t n) {
    while (reader_ && n > 0) {
        const int32_t of_part = std::min(n, reader_->plan().n_next());
        reader_->added(of_part);
        n -= of_part;
    }
}

int32_t sequence::n_used() const {
    return context_->n_used().value_or(n_past_); // without cells to count, positions bound them
}

int32_t sequence::n_free() const {
    const int32_t cap = context_->cap() ? context_->cap() : context_->size();
    return std::min(context_->size(), cap) - n_used();
}

template <class Decode>
void sequence::run(int32_t n, Decode && decode) {
    check_room("reading " + std::to_string(n) + (n == 1 ? " token" : " tokens"));
    kept_logits_.clear();
    forget_errors();
    const int32_t status = decode();
    check_stopped();
    if (status != 0) {
        throw_logged<std::runtime_error>("llama_decode failed with status " +
                                         std::to_string(status) + ": ");
    }
}

void sequence::decode(const llama_token * tokens, int32_t n, logits_of which) {
    run(n, [&] {
        llama_batch batch = llama_batch_init(n, 0, 1);
        batch.n_tokens = n;
        for (int32_t i = 0; i < n; ++i) {
            batch.token[i] = tokens[i];
            batch.pos[i] = n_past_ + i;
            batch.n_seq_id[i] = 1;
            batch.seq_id[i][0] = 0;
            batch.logits[i] = which == logits_of::all || (which == logits_of::last && i + 1 == n);
        }
        const int32_t status = llama_decode(context_->get(), batch);
        llama_batch_free(batch);
        return status;
    });
    n_past_ += n;
}

void sequence::decode(row_batch & rows, std::span<const token_kind> kind) {
    run(rows.size(), [&] { return rows.decode(); });
    context_->set_last_kinds(kind);
}

void sequence::stop(std::exception_ptr why) {
    if (!stopped_) {
        stopped_ = std::move(why);
    }
}

void sequence::check_stopped() {
    if (work_is_stopped() && !stopped_) {
        stopped_ = std::make_exception_ptr(work_stopped());
    }
    if (stopped_) {
        if (compressor()) {
            compressor()->tap().drop_error(); // its graph was stopped
        }
        std::rethrow_exception(std::exchange(stopped_, nullptr));
    }
    if (compressor()) {
        compressor()->tap().rethrow();
    }
}

void sequence::drop_errors() {
    if (compressor()) {
        compressor()->tap().disarm();
        compressor()->tap().drop_error();
    }
}

compress_result sequence::compress(compress_options options, const progress_fn & progress) {
    if (reader_) {
        squeeze([&] { options = reader_->finish(evicts(options)); });
    }
    count_all();
    check_room("compression");
    class compressor * const c = compressor();
    const size_t per_cell = c ? c->kv().bytes_per_cell() : 0;
    if (reader_) {
        stats_.score_seconds = c->score_seconds();
        stats_.compress_bytes_peak = c->peak_bytes();
        stats_.kept_of = c->count(0, reader_->plan().kinds());
    }
    if (!evicts(options)) {
        stats_.prefill_seconds -= stats_.score_seconds; // the tap runs inside it
        stats_.note = !options.method.evicts       ? "method origin keeps the full cache"
                      : stats_.squeezed_cells == 0 ? "kv_ratio 1 keeps the full cache"
                                                   : "";
        if (c) {
            c->tap().disarm();
        }
        return {};
    }
    const auto report = [&](int done, int total) {
        if (progress) {
            progress(phase::compress, done, total);
        }
    };
    compress_result result = c->compress(0, options, report);
    stats_.kept_cells = result.n_keep;
    stats_.kept_of = result.kept_of;
    stats_.chosen_ratio = result.chosen_ratio;
    stats_.attention_held = result.attention_held;
    stats_.note = result.note.empty()          ? result.warning
                  : stats_.squeezed_cells == 0 ? result.note
                                               : "";
    stats_.bytes_used_after = per_cell * c->kv().n_used();
    stats_.compress_bytes_peak = result.peak_bytes;
    stats_.compress_seconds += result.seconds;
    stats_.score_seconds = result.score_seconds;
    stats_.prefill_seconds -= stats_.score_seconds; // the tap runs inside it
    return result;
}

void sequence::count_all() {
    stats_.kept_cells = stats_.prompt_cells - stats_.squeezed_cells;
    stats_.kept_of = {stats_.text_cells, stats_.image_cells, stats_.context_cells};
    const size_t per_cell = compressor() ? compressor()->kv().bytes_per_cell() : 0;
    stats_.bytes_used_before = stats_.bytes_used_after = per_cell * stats_.kept_cells;
    stats_.bytes_allocated_before = stats_.bytes_allocated_after = context_->bytes();
}

void sequence::keeps_all() {
    count_all();
    stats_.score_seconds = compressor() ? compressor()->score_seconds() : 0.0;
    stats_.prefill_seconds -= stats_.score_seconds; // the tap runs inside it
}

void sequence::shrink(int32_t n_answer) {
    const auto n_kept = context_->n_used();
    const bool fits = n_kept == stats_.prompt_cells && !reader_ && !context_->keeps_other_types();
    if (!n_kept || fits) {
        return; // opened in the right size
    }
    const stopwatch watch;
    keep_logits(logits());
    context_->move(*n_kept + n_answer);
    stats_.bytes_used_after = context_->bytes_per_cell() * stats_.kept_cells;
    stats_.bytes_allocated_after = context_->bytes();
    stats_.move_seconds = watch.seconds();
}

std::vector<float> sequence::logits() const {
    const float * last = llama_get_logits_ith(context_->get(), -1);
    return {last, last + llama_vocab_n_tokens(opened_.vocab())};
}

size_t sequence::copy::bytes() const {
    return cells.size() + kinds.size() * sizeof(token_kind) + sums.bytes();
}

sequence::copy sequence::copied() const {
    copy out = {context_->sequence_at_rest(), context_->kinds(), {}};
    if (compressor() && sums_are_whole_) {
        out.sums = sums_of(*compressor(), 0);
    }
    return out;
}

void sequence::resume(const copy & from, int32_t n_cells, llama_pos n_past) {
    context_->refill_from_rest(from.cells, from.kinds);
    if (!llama_memory_seq_rm(llama_get_memory(context_->get()), 0, n_past, -1)) {
        throw std::runtime_error("this model's memory cannot forget the end of a prompt");
    }
    n_past_ = n_past;
    stats_.reused_cells = n_cells;
    class compressor * const c = compressor();
    if (!c || !c->observed()) {
        return;
    }
    if (!sums_are_whole_) {
        c->tap().begin_after(n_cells);
        return;
    }
    restore(*c, 0, from.sums);
}

std::vector<std::vector<float>> sequence::scores() const {
    return compressor() ? sums_of(*compressor(), 0).sums : std::vector<std::vector<float>>();
}

// Cells that were read while nothing was to be evicted have no scores: they start from 0.
void sequence::restore_scores(const std::vector<std::vector<float>> & scores) {
    class compressor * const c = compressor();
    if (!c) {
        return;
    }
    if (keeps_ != turns::scored) {
        c->observe_nothing();
        return;
    }
    c->observe_all(reader_->options());
    const std::vector<cell> cells = c->kv().cells(0);
    for (size_t i = 0; c->observed() && !cells.empty() && i < c->kv().layers().size(); ++i) {
        const std::vector<float> none(cells.size() * c->kv().layers()[i].k.n_head_kv, 0.0f);
        c->tap().restore(i, cells, scores.empty() ? none : scores[i]);
    }
    c->tap().disarm();
}

void sequence::carry(int32_t n_cells) {
    const std::vector<std::vector<float>> kept = scores();
    context_->move(n_cells, true);
    if (compressor()) {
        reader_->attach(*compressor(), 0);
    }
    restore_scores(kept);
}

} // namespace lookm
