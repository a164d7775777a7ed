#include "lookm/server/hook.h"

#include "lookm/llama/stopwatch.h"
#include "lookm/server/settings.h"

#include "log.h"

#include <algorithm>

namespace lookm::server {

hook & the_hook() {
    static hook one;
    return one;
}

void hook::attach(llama_context * ctx) {
    compressor_.reset(); // of a context that is gone
    compressor_ = std::make_unique<compressor>(ctx);
    ctx_ = ctx;
    observed_ = -1;
    gauge_allocated_ = static_cast<int32_t>(n_cells() * compressor_->kv().layers().front().k.storage->ne[2]);
}

bool hook::wants(const slot_prompt & p) const {
    const settings & s = current();
    if (p.ratio >= 1.0 || p.n_tokens < s.min_cells) {
        return false;
    }
    return p.has_image || s.resolved().prior == prior::none;
}

bool hook::may_reuse(const slot_prompt & p, int32_t n_common) const {
    const packed_cells packed = compressor_->kv().packed(p.slot);
    if (packed.n == 0) {
        return n_common == 0 || !wants(p);
    }
    if (current().strict_reuse) {
        return false;
    }
    const auto found = ratio_by_shape_.find({packed.pos, packed.n});
    // unknown: from a slot file of an earlier server
    return p.ratio == (found == ratio_by_shape_.end() ? current().default_ratio() : found->second);
}

void hook::before_decode(const slot_prompt * p, const foreign_rows & foreign) {
    if (!p) {
        compressor_->tap().disarm();
        return;
    }
    if (observed_ != p->task) {
        begin(*p);
    } else {
        compressor_->resume();
    }
    compressor_->tap().skip(foreign.before);
}

void hook::begin(const slot_prompt & p) {
    const packed_cells packed = compressor_->kv().packed(p.slot);
    options_ = current().options(p.ratio);
    options_.kind = p.kind(packed);
    compressor_->observe(options_);
    compressor_->tap().skip(packed.n - n_used(p.slot)); // cells of tokens that this prompt goes on from
    observed_ = p.task;
}

void hook::finish(const slot_prompt & p) {
    const bool wanted = wants(p) && observed_ == p.task;
    compressor_->tap().disarm();
    prompt_cells & cells = by_slot_[p.slot] = {p.task, p.n_tokens, n_used(p.slot)};
    if (!wanted) {
        return;
    }
    observed_ = -1;
    const stopwatch watch;
    llama_synchronize(ctx_);
    const int32_t before = n_used(p.slot);
    const compress_result result = compressor_->compress(p.slot, options_);
    const double seconds = watch.seconds();
    cells.kept = n_used(p.slot);
    if (!result.note.empty()) {
        LOG_INF("slot     compress: id %2d | task %d | %d cells kept: %s\n", p.slot, p.task, before,
                result.note.c_str());
        return;
    }
    remember(p);
    const std::string staged =
        result.n_staged > 0 ? ", " + std::to_string(result.n_staged) + " layers merged on the CPU" : "";
    LOG_INF("slot     compress: id %2d | task %d | %d -> %d cells, ratio %.3f, %.1f ms%s\n", p.slot, p.task, before,
            cells.kept, static_cast<double>(cells.kept) / before, 1e3 * seconds, staged.c_str());
    const std::lock_guard lock(mutex_);
    ++counters_.prompts;
    counters_.cells_before += static_cast<uint64_t>(before);
    counters_.cells_after += static_cast<uint64_t>(cells.kept);
    counters_.seconds += seconds;
}

void hook::remember(const slot_prompt & p) {
    const packed_cells packed = compressor_->kv().packed(p.slot);
    const auto [entry, is_new] = ratio_by_shape_.insert({{packed.pos, packed.n}, p.ratio});
    if (!is_new && entry->second != p.ratio) {
        entry->second = -1.0;
    }
}

void hook::share(const slot_prompt & from, int32_t slot, int32_t task) {
    by_slot_[slot] = by_slot_[from.slot];
    by_slot_[slot].task = task;
}

std::vector<prompt_cells> hook::last_prompts() const {
    std::vector<prompt_cells> all;
    for (const auto & [slot, cells] : by_slot_) {
        all.push_back(cells);
    }
    return all;
}

counters hook::count() const {
    const std::lock_guard lock(mutex_);
    return counters_;
}

void hook::update_gauges() {
    gauge_used_ = compressor_->kv().n_used();
}

} // namespace lookm::server
