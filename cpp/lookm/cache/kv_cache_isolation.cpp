// One sequence among others, shown as if it were alone.

#include "lookm/cache/private_caches.h"

#include <memory>
#include <tuple>
#include <utility>

namespace lookm {

namespace {

// Collects moves of single cells and joins consecutive ones.
class move_list {
  public:
    void add(int32_t from, int32_t to) {
        if (from == to) {
            return;
        }
        if (!moves_.empty() && moves_.back().from + moves_.back().n == from &&
            moves_.back().to + moves_.back().n == to) {
            ++moves_.back().n;
        } else {
            moves_.push_back({from, to, 1});
        }
    }
    std::vector<cell_move> take() { return std::move(moves_); }

  private:
    std::vector<cell_move> moves_;
};

bool same_place(const llama_kv_cells & a, const llama_kv_cells & b, uint32_t i) {
    const llama_kv_cell_ext x = a.ext_get(i), y = b.ext_get(i);
    return a.pos_get(i) == b.pos_get(i) && std::tie(x.x, x.y, x.tok) == std::tie(y.x, y.y, y.tok);
}

} // namespace

bool kv_cache::can_isolate() const {
    const uint32_t n_seq = llama_n_seq_max(ctx_);
    return kv_->get_n_stream() == 1 && n_seq > 1 && n_seq < LLAMA_MAX_SEQ;
}

std::optional<std::vector<cell_move>> kv_cache::moves_to_isolate(llama_seq_id seq,
                                                                 int32_t n) const {
    const llama_kv_cells & cells = kv_->get_cells(seq);
    move_list moves;
    int32_t own = 0, other = n;
    for (const cell & c : this->cells(seq)) {
        moves.add(c.index, own++);
    }
    for (uint32_t i = 0; i < cells.size(); ++i) {
        if (!cells.is_empty(i) && !cells.seq_has(i, seq)) {
            moves.add(static_cast<int32_t>(i), other++);
        }
    }
    if (own > n || other > n_cells()) {
        return std::nullopt;
    }
    return moves.take();
}

std::vector<cell_move> kv_cache::moves_to_pack() const {
    const llama_kv_cells & cells = kv_->get_cells(0);
    move_list moves;
    int32_t to = 0;
    for (uint32_t i = 0; i < cells.size(); ++i) {
        if (!cells.is_empty(i)) {
            moves.add(static_cast<int32_t>(i), to++);
        }
    }
    return moves.take();
}

void kv_cache::move(std::span<const cell_move> moves) {
    auto & cells = const_cast<llama_kv_cells &>(kv_->get_cells(0));
    std::vector<uint32_t> from, to;
    for (const cell_move & m : moves) {
        for (int32_t i = 0; i < m.n; ++i) {
            from.push_back(static_cast<uint32_t>(m.from + i));
            to.push_back(static_cast<uint32_t>(m.to + i));
        }
    }
    const llama_kv_cells moved = cells.cp(from);
    for (const uint32_t i : from) {
        cells.rm(i);
    }
    cells.set(to, moved);
    heads_of(*kv_)[0] = 0;
}

void kv_cache::isolate(llama_seq_id seq, int32_t n) {
    auto & cells = const_cast<llama_kv_cells &>(kv_->get_cells(seq));
    isolated_ = std::make_unique<isolated>();
    isolated_->seq = seq;
    isolated_->n = n;
    llama_kv_cells & own = isolated_->cells;
    own.resize(cells.size());
    std::vector<uint32_t> index;
    for (const cell & c : this->cells(seq)) {
        index.push_back(static_cast<uint32_t>(c.index));
    }
    own.set(index, cells.cp(index));
    for (const uint32_t i : index) {
        own.seq_keep(i, seq); // other sequences may share it
    }
    isolated_->head = static_cast<uint32_t>(index.size());
    for (uint32_t i = isolated_->head; i < static_cast<uint32_t>(n); ++i) {
        cells.pos_set(i, 0);
        cells.seq_add(i, seq_held);
    }
}

void kv_cache::show_isolated() {
    if (!isolated_ || isolated_->shown) {
        return;
    }
    isolated & one = *isolated_;
    std::swap(const_cast<llama_kv_cells &>(kv_->get_cells(one.seq)), one.cells);
    std::swap(heads_of(*kv_)[0], one.head);
    one.shown = true;
}

bool kv_cache::keeps_isolated(int32_t n_more) {
    if (!isolated_) {
        return false;
    }
    const llama_kv_cells & own =
        isolated_->shown ? kv_->get_cells(isolated_->seq) : isolated_->cells;
    int32_t n_free = 0;
    for (int32_t i = 0; i < isolated_->n; ++i) {
        n_free += own.is_empty(static_cast<uint32_t>(i));
    }
    if (n_free < n_more) {
        unite();
    }
    return isolated_ != nullptr;
}

void kv_cache::show_all() {
    if (!isolated_ || !isolated_->shown) {
        return;
    }
    isolated & one = *isolated_;
    auto & cells = const_cast<llama_kv_cells &>(kv_->get_cells(one.seq));
    std::swap(cells, one.cells);
    std::swap(heads_of(*kv_)[0], one.head);
    one.shown = false;
    for (uint32_t i = 0; i < static_cast<uint32_t>(one.n); ++i) {
        const bool is = !one.cells.is_empty(i);
        const bool was = cells.seq_has(i, one.seq);
        if (is == was && (!is || same_place(cells, one.cells, i))) {
            continue;
        }
        for (const llama_seq_id seq : {one.seq, seq_held}) {
            if (!cells.is_empty(i) && cells.seq_has(i, seq)) {
                cells.seq_rm(i, seq);
            }
        }
        if (cells.is_empty(i)) {
            cells.pos_set(i, is ? one.cells.pos_get(i) : 0);
            cells.ext_set(i, is ? one.cells.ext_get(i) : llama_kv_cell_ext());
        }
        cells.seq_add(i, is ? one.seq : seq_held);
    }
}

void kv_cache::unite() {
    if (!isolated_) {
        return;
    }
    show_all();
    auto & cells = const_cast<llama_kv_cells &>(kv_->get_cells(isolated_->seq));
    const auto held = cells.seq_pos_get(seq_held); // a copy, as the loop changes it
    for (const auto & [pos, index] : held) {
        cells.seq_rm(index, seq_held);
    }
    heads_of(*kv_)[0] = 0;
    isolated_.reset();
}

} // namespace lookm
