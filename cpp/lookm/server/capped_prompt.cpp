#include "lookm/server/capped_prompt.h"

#include "lookm/core/stopwatch.h"

#include <utility>

namespace lookm::server {

namespace {

constexpr int32_t any_answer = 0;

} // namespace

capped_prompt::capped_prompt(compressor & c, llama_seq_id seq, const compress_options & options,
                             std::vector<prompt_part> parts, int32_t n_cells, int32_t n_batch)
    : compressor_(c), seq_(seq), options_(options),
      plan_(std::move(parts), n_cells, n_batch, any_answer), n_cells_(n_cells),
      n_prompt_(static_cast<int32_t>(options.kind.size())),
      forget_at_(first_query(options.method, budget_of(options, options.kind), options.kind)) {
    compressor_.observe_all(options_);
}

void capped_prompt::make_room(int32_t n) {
    const int32_t n_read = plan_.n_held() + n_squeezed_;
    squeeze(n);
    compressor_.resume();
    if (n_read <= forget_at_ && forget_at_ < n_read + n && forget_at_ > 0) {
        compressor_.tap().forget(forget_at_ - n_read, seq_);
    }
}

void capped_prompt::squeeze(int32_t n) {
    const int32_t n_held = plan_.n_held();
    options_.kind = plan_.kinds();
    const std::vector<cell_run> runs = plan_.room_for(n);
    if (runs.empty()) {
        return;
    }
    const stopwatch watch;
    compressor_.squeeze(seq_, options_, runs);
    n_squeezed_ += n_held - plan_.n_held();
    seconds_ += watch.seconds();
}

compress_options capped_prompt::finish(bool compresses) {
    options_.n_prompt = n_prompt_;
    options_.kind = plan_.kinds();
    const int32_t n_keep =
        compresses ? budget_of(options_, options_.kind).n_keep() : plan_.n_held();
    if (n_keep + plan_.n_answer() > n_cells_) {
        squeeze(plan_.n_answer());
        options_.kind = plan_.kinds();
    }
    return options_;
}

} // namespace lookm::server
