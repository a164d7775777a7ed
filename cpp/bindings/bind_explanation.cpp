#include "bindings.h"

#include "lookm/session/explanation.h"

#include <pybind11/numpy.h>

#include <algorithm>

namespace py = pybind11;
using namespace py::literals;

namespace {

// [n_head_kv, n]
template <class T>
py::array_t<T> by_head(const std::vector<T> & values, int64_t n_head_kv) {
    py::array_t<T> out({n_head_kv, static_cast<int64_t>(values.size()) / n_head_kv});
    std::copy(values.begin(), values.end(), out.mutable_data());
    return out;
}

py::dict to_dict(const lookm::image_piece & p) {
    const auto & [x0, y0, x1, y1] = p.area;
    const py::object area =
        p.has_area ? py::object(py::make_tuple(x0, y0, x1, y1)) : py::object(py::none());
    py::list pruned;
    for (const auto & [x, y] : p.pruned) {
        pruned.append(py::make_tuple(x, y));
    }
    return py::dict("image"_a = p.image, "tile"_a = p.kind == lookm::piece_kind::tile,
                    "area"_a = area, "nx"_a = p.nx, "ny"_a = p.ny, "pruned"_a = pruned);
}

} // namespace

py::dict to_dict(const lookm::explanation & e) {
    const auto n = static_cast<py::ssize_t>(e.cells.size());
    py::array_t<bool> is_text(n);
    py::array_t<int32_t> piece(n);
    py::array_t<int32_t> place({n, py::ssize_t(2)});
    py::list text, pieces, layers;
    for (py::ssize_t i = 0; i < n; ++i) {
        const lookm::explained_cell & cell = e.cells[i];
        is_text.mutable_at(i) = cell.kind == lookm::token_kind::text;
        piece.mutable_at(i) = cell.piece;
        place.mutable_at(i, 0) = cell.place[0];
        place.mutable_at(i, 1) = cell.place[1];
        text.append(py::bytes(cell.text));
    }
    for (const lookm::image_piece & p : e.pieces) {
        pieces.append(to_dict(p));
    }
    for (const lookm::explained_layer & l : e.layers) {
        layers.append(py::dict("il"_a = l.il, "kept"_a = by_head(l.kept, l.n_head_kv),
                               "merged_into"_a = by_head(l.merged_into, l.n_head_kv),
                               "score"_a = by_head(l.score, l.n_head_kv)));
    }
    return py::dict("is_text"_a = is_text, "piece"_a = piece, "place"_a = place, "text"_a = text,
                    "pieces"_a = pieces, "layers"_a = layers);
}
