#include "lookm/cache/cell_lists.h"

#include "lookm/core/bad_argument.h"

#include <algorithm>
#include <iterator>
#include <stdexcept>
#include <string>

namespace lookm {

std::vector<int32_t> to_cells(const std::vector<int32_t> & order, const std::vector<cell> & cells) {
    std::vector<int32_t> out(order.size());
    std::transform(order.begin(), order.end(), out.begin(),
                   [&](int32_t c) { return cells[c].index; });
    return out;
}

std::vector<token_kind> by_cell(const std::vector<token_kind> & kind,
                                const std::vector<cell> & cells) {
    std::vector<token_kind> out;
    for (size_t i = 0; i < cells.size(); ++i) {
        out.resize(std::max(out.size(), static_cast<size_t>(cells[i].index) + 1),
                   token_kind::image);
        out[cells[i].index] = kind[i];
    }
    return out;
}

std::vector<token_kind> kinds_of(const std::vector<cell> & cells,
                                 const std::vector<token_kind> & given) {
    if (!given.empty() && given.size() != cells.size()) {
        throw bad_argument("kind", std::to_string(given.size()) + " kinds given for " +
                                       std::to_string(cells.size()) + " cells, expected one each");
    }
    std::vector<token_kind> kind = given;
    if (kind.empty()) {
        std::transform(cells.begin(), cells.end(), std::back_inserter(kind),
                       [](const cell & c) { return c.kind; });
    }
    return kind;
}

} // namespace lookm
