#include "lookm/cache/capped_reader.h"

#include "lookm/core/bad_argument.h"
#include "lookm/core/stopwatch.h"

#include <string>
#include <utility>

namespace lookm {

namespace {

// A method that cannot work on cells whose later queries have not come yet.
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

// Text before a window's first query and text from there on are parts of their own: the former may
// be squeezed before any score is there.
std::vector<prompt_part> split_text(const std::vector<prompt_part> & parts, int32_t at) {
    std::vector<prompt_part> out;
    int32_t first = 0;
    for (prompt_part part : parts) {
        const int32_t n = part.n_cells;
        if (part.kind == token_kind::text && first < at && at < first + n) {
            part.n_cells = at - first;
            out.push_back(part);
            part.n_cells = n - part.n_cells;
        }
        out.push_back(part);
        first += n;
    }
    return out;
}

prompt_cap plan_of(const compress_options & options, std::vector<prompt_part> parts, int32_t cap,
                   int32_t n_batch, int32_t n_answer, int32_t forget_at) {
    check_squeezes(options.method, static_cast<int32_t>(options.kind.size()), cap);
    set_evictable(parts, options.method.prior);
    return {split_text(parts, forget_at), cap, n_batch, n_answer};
}

int32_t first_query_of(const compress_options & options) {
    return first_query(options.method, budget_of(options, options.kind), options.kind);
}

} // namespace

capped_reader::capped_reader(const compress_options & options, std::vector<prompt_part> parts,
                             int32_t cap, int32_t n_batch, int32_t n_answer)
    : options_(options), forget_at_(first_query_of(options)),
      plan_(plan_of(options, std::move(parts), cap, n_batch, n_answer, forget_at_)) {
    options_.n_prompt = static_cast<int32_t>(options.kind.size());
}

void capped_reader::attach(compressor & c, llama_seq_id seq) {
    compressor_ = &c;
    seq_ = seq;
}

void capped_reader::begin(compressor & c, llama_seq_id seq) {
    attach(c, seq);
    compressor_->observe_all(options_);
}

void capped_reader::make_room(int32_t n) {
    const int32_t n_read = plan_.n_held() + n_squeezed_;
    squeeze([&] { return plan_.room_for(n); });
    // not before: until a window's queries come there are no other scores to squeeze by
    const bool comes = n_read <= forget_at_ && forget_at_ < n_read + n;
    if (compressor_ && forget_at_ > 0 && comes) {
        compressor_->tap().forget(forget_at_ - n_read, seq_);
    }
}

void capped_reader::leave(int32_t n_most) {
    squeeze([&] { return plan_.leave(n_most); });
}

std::function<std::optional<double>(int32_t)> capped_reader::held_after_leave() const {
    if (!compressor_) {
        return [](int32_t) { return std::nullopt; };
    }
    compress_options options = options_;
    options.kind = plan_.kinds();
    return [plan = plan_, held = compressor_->held_after(seq_, options)](int32_t n_most) {
        return held(prompt_cap(plan).leave(n_most));
    };
}

void capped_reader::squeeze(const std::function<std::vector<cell_run>()> & runs_of_plan) {
    const int32_t n_held = plan_.n_held();
    options_.kind = plan_.kinds();
    const std::vector<cell_run> runs = runs_of_plan();
    n_squeezed_ += n_held - plan_.n_held();
    if (runs.empty() || !compressor_) {
        return;
    }
    const stopwatch watch;
    compressor_->squeeze(seq_, options_, runs);
    compressor_->resume();
    seconds_ += watch.seconds();
}

compress_options capped_reader::finish(bool compresses) {
    options_.kind = plan_.kinds();
    const int32_t n_keep =
        compresses ? budget_of(options_, options_.kind).n_keep() : plan_.n_held();
    if (n_keep + plan_.n_answer() > plan_.cap()) {
        make_room(plan_.n_answer());
        options_.kind = plan_.kinds();
    }
    if (compressor_) {
        compressor_->tap().disarm();
    }
    return options_;
}

} // namespace lookm
