#include "lookm/cache/sequence_sums.h"

#include "lookm/cache/compressor.h"

#include <algorithm>
#include <cmath>

namespace lookm {

namespace {

using layers = std::vector<std::vector<float>>;

constexpr uint64_t n_most = uint64_t(1) << 24; // layers

size_t bytes_of(const layers & all) {
    size_t n = 0;
    for (const std::vector<float> & layer : all) {
        n += layer.size() * sizeof(float);
    }
    return n;
}

bool fits(const layers & all, compressor & c, int32_t n_cells) {
    const std::vector<kv_layer> & those = c.kv().layers();
    if (!all.empty() && all.size() != those.size()) {
        return false;
    }
    for (size_t i = 0; i < all.size(); ++i) {
        const auto n = static_cast<size_t>(n_cells * those[i].k.n_head_kv);
        const auto is_number = [](float x) { return std::isfinite(x); };
        if (all[i].size() != n || !std::all_of(all[i].begin(), all[i].end(), is_number)) {
            return false;
        }
    }
    return true;
}

void put_layers(state_writer & w, const layers & all) {
    w.put<uint64_t>(all.size());
    for (const std::vector<float> & layer : all) {
        w.put(layer);
    }
}

layers get_layers(state_reader & r) {
    const auto n = r.get<uint64_t>();
    if (n > n_most || n > r.n_left() / sizeof(uint64_t)) {
        state_reader::fail();
    }
    layers all(n);
    for (std::vector<float> & layer : all) {
        layer = r.get_all<float>();
    }
    return all;
}

} // namespace

size_t sequence_sums::bytes() const {
    return bytes_of(sums) + bytes_of(squares);
}

bool sequence_sums::fit(compressor & c, int32_t n_cells) const {
    return fits(sums, c, n_cells) && fits(squares, c, n_cells);
}

void sequence_sums::put(state_writer & w) const {
    put_layers(w, sums);
    put_layers(w, squares);
}

sequence_sums sequence_sums::get(state_reader & r) {
    sequence_sums out;
    out.sums = get_layers(r);
    out.squares = get_layers(r);
    return out;
}

sequence_sums sums_of(compressor & c, llama_seq_id seq) {
    sequence_sums out;
    const std::vector<cell> cells = c.kv().cells(seq);
    for (size_t i = 0; c.observed() && i < c.kv().layers().size(); ++i) {
        out.sums.push_back(c.tap().scores(i, cells));
        if (c.tap().plan().squares) {
            out.squares.push_back(c.tap().squares(i, cells));
        }
    }
    return out;
}

void restore(compressor & c, llama_seq_id seq, const sequence_sums & from) {
    const std::vector<cell> cells = c.kv().cells(seq);
    for (size_t i = 0; i < from.sums.size(); ++i) {
        c.tap().restore(i, cells, from.sums[i],
                        from.squares.empty() ? std::vector<float>() : from.squares[i]);
    }
}

} // namespace lookm
