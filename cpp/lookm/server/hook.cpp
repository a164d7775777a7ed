#include "lookm/server/hook.h"

#include "lookm/server/pruned_pieces.h"

#include "log.h"

#include <algorithm>
#include <cstdio>
#include <stdexcept>
#include <utility>

namespace lookm::server {

namespace {

constexpr int32_t any_answer = 0; // its length is not known

} // namespace

hook & server_hook() {
    static hook & one = *new hook; // never destroyed: its context and devices may be gone earlier
    return one;
}

void hook::attach(llama_context * ctx) {
    if (compressor_) { // its context is gone
        compressor_->tap().abandon();
        compressor_.reset();
    }
    compressor_ = std::make_unique<compressor>(ctx);
    ctx_ = ctx;
    const settings & s = server_settings();
    prefixes_.attach(ctx, s.prefix_type, s.resolved().scorer == scorer::cumulative);
    resumed_.reset();
    compressed_.attach(ctx);
    repeated_.reset();
    observed_ = -1;
    reading_.reset();
    round_ = {};
    cap_ = {};
    metrics_.cells_allocated =
        static_cast<int32_t>(n_cells() * compressor_->kv().layers().front().k.storage->ne[2]);
}

bool hook::wants(const slot_prompt & p) const {
    const settings & s = server_settings();
    if (!p.ratio.compresses() || p.n_tokens < s.min_cells) {
        return false;
    }
    return p.has_image || s.resolved().prior == prior::none;
}

int32_t hook::n_from_prefix(const slot_prompt & p) const {
    if (!wants(p) || exceeds(p)) {
        return 0;
    }
    compress_options options = server_settings().options(p.ratio);
    if (options.method.scorer != scorer::window) {
        return p.n_tokens - 1; // the last token must be decoded
    }
    options.kind = p.kind({});
    return first_query(options.method, budget_of(options, options.kind), options.kind);
}

void hook::keep_prefix(const slot_prompt & p, const server_tokens & first, int32_t n_useful) {
    if (observed_ != p.task || reading_ || compressor_->kv().packed(p.slot).n > 0 ||
        n_used(p.slot) != static_cast<int32_t>(first.size()) ||
        prefixes_.find(first, p.adapters, n_useful).n_tokens == n_useful) {
        return;
    }
    llama_synchronize(ctx_);
    const bool sums = options_.method.scorer == scorer::cumulative;
    prefixes_.keep(p.slot, first, p.adapters,
                   sums ? sums_of(*compressor_, p.slot) : sequence_sums());
}

void hook::cap(int32_t n, int32_t n_batch) {
    cap_ = {n, n_batch};
}

bool hook::exceeds(const slot_prompt & p) const {
    return capped_reader::needed(p.n_tokens, cap_.n_cells, any_answer);
}

std::string hook::refusal(const slot_prompt & p, bool empty) const {
    if (!p.has_image && !exceeds(p)) {
        return "";
    }
    const std::vector<prompt_part> parts = p.parts();
    const auto n_ubatch = static_cast<int32_t>(llama_n_ubatch(ctx_));
    for (const prompt_part & part : parts) {
        if (part.whole && part.n_cells > n_ubatch) { // llama.cpp would abort
            return "prompt: an image of " + std::to_string(part.n_cells) +
                   " cells must fit into one batch of " + std::to_string(n_ubatch) +
                   "; expected --ubatch-size " + std::to_string(part.n_cells) + " or more" +
                   (capped() ? ", which is limited to a quarter of a slot's --kv-cells" : "");
        }
    }
    try {
        if (empty && exceeds(p)) {
            compress_options options = server_settings().options(p.ratio);
            options.kind = p.kind({});
            capped_reader(options, parts, cap_.n_cells, cap_.n_batch, any_answer);
        }
        return "";
    } catch (const std::invalid_argument & error) {
        return error.what();
    }
}

bool hook::may_reuse(const slot_prompt & p, int32_t n_common, const slot_tokens & held) const {
    const packed_cells packed = compressor_->kv().packed(p.slot);
    const int32_t n_used = this->n_used(p.slot);
    const int32_t n_packed_tokens = packed.n > 0 ? held.n_up_to(packed.pos) : 0;
    if (n_used - packed.n != held.n - n_packed_tokens) {
        return false; // a cap has evicted some of these tokens, maybe in another server
    }
    if (capped()) {
        const int32_t n_more =
            p.n_tokens - n_common + prompt_cap::answer_share(cap_.n_cells, any_answer);
        if (n_common == 0 || n_used + n_more > cap_.n_cells) {
            return false;
        }
    }
    if (n_common > 0 && !can_cut()) {
        return false;
    }
    if (packed.n == 0) {
        return n_common == 0 || !wants(p);
    }
    // the whole packed prompt must be repeated, with at least one more token: otherwise
    // llama-server reads from the start
    if (server_settings().strict_reuse || n_common < n_packed_tokens ||
        p.n_tokens == n_packed_tokens) {
        return false;
    }
    return records_.has_ratio(packed, p.ratio, server_settings().default_ratio());
}

bool hook::is_half_read(int32_t slot, int32_t task) const {
    return compressor_->kv().packed(slot).n > 0 && !records_.is_last(slot, task);
}

const round_plan & hook::plan_next(const std::vector<slot_view> & slots, const cache_view & cache) {
    if (round_.alternates >= 0) {
        balance_.took(round_.alternates, round_.reader >= 0, since_plan_.seconds());
    }
    since_plan_ = {};
    round_ = plan_round(slots, cache, balance_.is_readers());
    return round_;
}

void hook::before_decode(const slot_prompt * p, int32_t n) {
    if (!p || repeats(*p)) {
        compressor_->tap().disarm();
        return;
    }
    if (observed_ != p->task) {
        begin(*p);
    } else {
        compressor_->resume();
    }
    compressor_->kv().show_isolated();
    make_room(p, n);
}

void hook::make_room(const slot_prompt * p, int32_t n) {
    if (!p || n == 0) {
        return;
    }
    if (reading_) {
        reading_->make_room(n);
    }
    compressor_->kv().keeps_isolated(n);
}

void hook::after_batch(int32_t n) {
    if (reading_ && n > 0) {
        reading_->added(n);
    }
}

void hook::after_decode() {
    compressor_->kv().show_all();
}

void hook::give_up(int32_t task) {
    if (repeated_task_ == task) {
        repeated_.reset();
    }
    if (observed_ == task) {
        observed_ = -1;
        reading_.reset();
        resumed_.reset();
        compressor_->tap().disarm();
        compressor_->unite();
    }
}

void hook::before_answer(const slot_answer & answer, llama_pos pos, int32_t n) {
    const int32_t n_over = capped() ? n_used(answer.slot) + n - cap_.n_cells : 0;
    if (n_over <= 0) {
        return;
    }
    const auto [first, last] = answers_.drop(answer, pos, n_over);
    if (last > first) {
        kv_cache::forget(ctx_, answer.slot, first, last);
    }
}

int32_t hook::n_image_batch(int32_t n_batch, bool whole) const {
    return reading_ && !whole ? std::min(n_batch, reading_->plan().n_at_once()) : n_batch;
}

void hook::begin(const slot_prompt & p) {
    const packed_cells packed = compressor_->kv().packed(p.slot);
    options_ = server_settings().options(p.ratio);
    options_.kind = p.kind(packed);
    observed_ = p.task;
    reading_.reset();
    const auto n_all = packed.n + static_cast<int32_t>(options_.kind.size());
    compressor_->isolate(p.slot, capped() ? std::min(n_all, cap_.n_cells) : n_all);
    if (exceeds(p) && n_used(p.slot) == 0) {
        reading_.emplace(options_, p.parts(), cap_.n_cells, cap_.n_batch, any_answer);
        reading_->begin(*compressor_, p.slot);
        return;
    }
    compressor_->observe(options_);
    const int32_t n_continued_from = n_used(p.slot) - packed.n; // tokens that stay as they are
    compressor_->tap().begin_after(n_continued_from);
    if (const auto from = std::exchange(resumed_, nullptr); from && resumed_task_ == p.task) {
        restore(*compressor_, p.slot, from->sums);
    }
}

void hook::finish_repeated(const slot_prompt & p) {
    const std::shared_ptr<const compressed_prompt> same = std::exchange(repeated_, nullptr);
    llama_synchronize(ctx_);
    if (!compressed_.restore(p.slot, *same)) {
        throw std::runtime_error("the cells of the same prompt cannot be restored");
    }
    compressed_.restore_logits(*same);
    prompt_cells & cells = records_.set(p.slot, same->counts);
    cells.task = p.task;
    records_.add_ratio(compressor_->kv().packed(p.slot), p.ratio);
    LOG_INF("slot     compress: id %2d | task %d | the same prompt again: %d cells restored\n",
            p.slot, p.task, cells.kept);
}

bool hook::finish(const slot_prompt & p) {
    if (repeats(p)) {
        finish_repeated(p);
        return false; // it is kept already
    }
    const bool observed = observed_ == p.task;
    const bool wanted = wants(p) && observed;
    compressor_->tap().disarm();
    prompt_cells & cells =
        records_.set(p.slot, {p.task, p.n_tokens, n_used(p.slot), pruned().n_left_out(p.slot)});
    std::optional<capped_reader> capped =
        observed ? std::exchange(reading_, std::nullopt) : std::nullopt;
    if (!wanted && !capped) {
        give_up(p.task);
        return false;
    }
    observed_ = -1;
    const stopwatch watch;
    llama_synchronize(ctx_);
    const double seconds_before = capped ? capped->seconds() : 0.0;
    if (capped) {
        options_ = capped->finish(wanted);
    }
    const int32_t before = capped ? p.n_tokens : n_used(p.slot);
    const bool alone = !capped && compressor_->kv().packed(p.slot).n == 0;
    const compress_result result =
        wanted ? compressor_->compress(p.slot, options_) : compress_result();
    compressor_->unite();
    const double seconds = watch.seconds() + seconds_before;
    cells.kept = n_used(p.slot);
    cells.chosen_ratio = result.chosen_ratio;
    cells.attention_held = result.attention_held;
    if (cells.kept == before) {
        LOG_INF("slot     compress: id %2d | task %d | %d cells kept: %s\n", p.slot, p.task, before,
                result.note.c_str());
        return false;
    }
    const bool compressed = wanted && result.note.empty();
    if (compressed) {
        records_.add_ratio(compressor_->kv().packed(p.slot), p.ratio);
    }
    std::string how = capped ? ", read through " + std::to_string(cap_.n_cells) + " cells" : "";
    if (result.n_staged > 0) {
        how += ", " + std::to_string(result.n_staged) + " layers merged on the CPU";
    }
    if (result.attention_held) {
        char held[32];
        std::snprintf(held, sizeof(held), ", attention held %.3f", *result.attention_held);
        how += held;
    }
    LOG_INF("slot     compress: id %2d | task %d | %d -> %d cells, ratio %.3f, %.1f ms%s\n", p.slot,
            p.task, before, cells.kept, static_cast<double>(cells.kept) / before, 1e3 * seconds,
            how.c_str());
    if (!result.warning.empty()) {
        LOG_WRN("slot     compress: id %2d | task %d | %s\n", p.slot, p.task,
                result.warning.c_str());
    }
    metrics_.add(before, cells.kept, seconds, result.attention_held);
    return compressed && alone;
}

std::shared_ptr<const compressed_prompt> hook::find_same(const slot_prompt & p,
                                                         const server_tokens & tokens) {
    return wants(p) && !exceeds(p) ? compressed_.find(tokens, p.adapters, p.ratio) : nullptr;
}

bool hook::repeat(const slot_prompt & p, std::shared_ptr<const compressed_prompt> same) {
    if (!compressed_.restore(p.slot, *same) || n_used(p.slot) != same->counts.kept) {
        return false;
    }
    metrics_.tokens_restored += same->tokens.size();
    ++metrics_.prompts_repeated;
    repeated_ = std::move(same);
    repeated_task_ = p.task;
    return true;
}

void hook::keep_compressed(const slot_prompt & p, const server_tokens & tokens) {
    compressed_.keep(p.slot, tokens, p.adapters, p.ratio, records_.of(p.slot));
}

void hook::share(const slot_prompt & from, int32_t slot, int32_t task) {
    records_.copy(from.slot, slot, task);
}

void hook::restored(const slot_prompt & p, std::shared_ptr<const full_prefix> from,
                    std::span<const token_kind> kind, int32_t n) {
    compressor_->kv().restore_kinds(p.slot, kind);
    resumed_ = std::move(from);
    resumed_task_ = p.task;
    ++metrics_.prefixes_restored;
    metrics_.tokens_restored += static_cast<uint64_t>(n);
}

void hook::update_gauges() {
    metrics_.prefix_bytes = prefixes_.bytes();
    metrics_.compressed_prompt_bytes = compressed_.bytes();
    metrics_.cells_used = compressor_->kv().n_used();
}

} // namespace lookm::server
