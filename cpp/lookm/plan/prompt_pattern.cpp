#include "lookm/plan/prompt_pattern.h"

#include "lookm/core/bad_argument.h"

#include <algorithm>

namespace lookm {

namespace {

size_t end_of_images(const std::vector<token_kind> & kinds) {
    const auto last = std::find(kinds.rbegin(), kinds.rend(), token_kind::image);
    return static_cast<size_t>(kinds.rend() - last);
}

} // namespace

prompt_pattern::prompt_pattern(const prompt & one, const prompt & two) {
    const std::vector<token_kind> a = one.kinds();
    const std::vector<token_kind> b = two.kinds();
    const size_t first = end_of_images(a);
    const size_t second = end_of_images(b);
    if (second <= first || b.size() <= a.size()) {
        throw bad_argument("messages", "the chat template drops images");
    }
    size_t at = 0;
    for (const prompt_chunk & chunk : two.chunks) {
        segment & s = at < first ? before_ : at < second ? each_ : after_;
        const auto n = static_cast<size_t>(chunk.n_cells());
        s.kinds.insert(s.kinds.end(), b.begin() + static_cast<int64_t>(at),
                       b.begin() + static_cast<int64_t>(at + n));
        s.parts.push_back(chunk.n_cells());
        at += n;
    }
    image_cells =
        static_cast<int32_t>(std::count(each_.kinds.begin(), each_.kinds.end(), token_kind::image));
    mark_cells = static_cast<int32_t>(each_.kinds.size()) - image_cells;
    n_tiles = one.n_tiles();
    for (const prompt_chunk & chunk : one.chunks) {
        encoded_cells += chunk.n_encoded();
    }
}

std::vector<const prompt_pattern::segment *> prompt_pattern::segments(int32_t n_images) const {
    std::vector<const segment *> out = {&before_};
    out.insert(out.end(), n_images - 1, &each_);
    out.push_back(&after_);
    return out;
}

std::vector<token_kind> prompt_pattern::kinds(int32_t n_images) const {
    std::vector<token_kind> out;
    for (const segment * s : segments(n_images)) {
        out.insert(out.end(), s->kinds.begin(), s->kinds.end());
    }
    return out;
}

std::vector<prompt_part> prompt_pattern::parts(int32_t n_images) const {
    std::vector<prompt_part> out;
    for (const segment * s : segments(n_images)) {
        int32_t at = 0;
        for (const int32_t n : s->parts) {
            const token_kind kind = s->kinds[at];
            out.push_back(
                {.n_cells = n, .kind = kind, .whole = whole && kind == token_kind::image});
            at += n;
        }
    }
    return out;
}

int64_t prompt_pattern::n_cells(int32_t n_images) const {
    return std::ssize(before_.kinds) + (n_images - 1) * std::ssize(each_.kinds) +
           std::ssize(after_.kinds);
}

int32_t prompt_pattern::most_images(int32_t n_cells) const {
    const int64_t left = n_cells - this->n_cells(1);
    return left < 0 ? 0
                    : static_cast<int32_t>(
                          std::min<int64_t>(1 + left / std::ssize(each_.kinds), most_planned));
}

} // namespace lookm
