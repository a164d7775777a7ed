#include "lookm/core/prompt_cap.h"

#include "lookm/core/bad_argument.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

namespace lookm {

namespace {

constexpr double least_image_share = 1.0 / 32;
constexpr double least_text_share = 1.0 / 4;
constexpr int32_t n_sinks = 4;

int32_t floor_cells(double share, int32_t n) {
    return std::max(1, static_cast<int32_t>(share * n));
}

} // namespace

void set_evictable(std::vector<prompt_part> & parts, prior prior) {
    for (prompt_part & part : parts) {
        part.evictable = prior == prior::none || part.kind == token_kind::image;
    }
}

int32_t prompt_cap::answer_share(int32_t cap, int32_t n_answer) {
    const int32_t most = std::max(2, cap / 8); // its last cell is never forgotten
    return n_answer > 0 ? std::min(n_answer, most) : most;
}

prompt_cap::prompt_cap(std::vector<prompt_part> parts, int32_t cap, int32_t n_batch,
                       int32_t n_answer, const std::vector<int32_t> & held)
    : parts_(std::move(parts)), now_(parts_.size()), cap_(cap),
      n_answer_(answer_share(cap, n_answer)) {
    for (size_t i = 0; i < held.size(); ++i) {
        now_[i] = {parts_[i].n_cells, held[i]};
    }
    share_out(n_batch);
    if (fits()) {
        return;
    }
    int32_t too_few = cap, enough = 2 * n_answer_;
    for (const prompt_part & p : parts_) {
        enough += 2 * p.n_cells;
    }
    const int32_t n_prompt = enough / 2 - n_answer_;
    while (enough - too_few > 1) {
        cap_ = too_few + (enough - too_few) / 2;
        n_answer_ = answer_share(cap_, n_answer);
        share_out(n_batch);
        (fits() ? enough : too_few) = cap_;
    }
    throw bad_argument("kv_cells", "a prompt of " + std::to_string(n_prompt) + " cells in " +
                                       std::to_string(parts_.size()) +
                                       " parts cannot be read through " + std::to_string(cap) +
                                       "; expected " + std::to_string(enough) + " or more");
}

void prompt_cap::share_out(int32_t n_batch) {
    n_first_ = std::clamp(cap_ / 8, 1, n_sinks);
    n_last_ = cap_ / 8;
    n_at_once_ = std::clamp(cap_ / 4, 1, n_batch);
    double n_image = 0, n_text = 0, image_floors = 0;
    int32_t n_whole = 0;
    for (const prompt_part & p : parts_) {
        (p.evictable ? n_image : n_text) += p.n_cells;
        image_floors += p.evictable ? floor_cells(least_image_share, p.n_cells) : 0;
        n_whole = std::max(n_whole, p.whole ? p.n_cells : 0);
    }
    const double left = cap_ - std::max({n_at_once_, n_whole, n_answer_}) - n_last_;
    image_share_ = std::clamp((left - n_text) / std::max(n_image, 1.0), least_image_share, 1.0);
    text_share_ = std::clamp((left - image_floors) / std::max(n_text, 1.0), least_text_share, 1.0);
    if (image_share_ > least_image_share) {
        text_share_ = 1.0;
    }
}

int32_t prompt_cap::floor_of(size_t part) const {
    return floor_cells(parts_[part].evictable ? image_share_ : text_share_, now_[part].n_read);
}

// Reads the whole prompt, counting only.
bool prompt_cap::fits() const {
    prompt_cap trial = *this;
    std::vector<cell_run> runs;
    for (int32_t n = trial.n_next(); n > 0; n = trial.n_next()) {
        if (!trial.shrink(n, runs)) {
            return false;
        }
        trial.add(n);
    }
    return trial.shrink(n_answer_, runs);
}

int32_t prompt_cap::n_held() const {
    int32_t n = 0;
    for (const state & s : now_) {
        n += s.n_held;
    }
    return n;
}

std::vector<token_kind> prompt_cap::kinds() const {
    std::vector<token_kind> out;
    for (size_t i = 0; i < parts_.size(); ++i) {
        out.insert(out.end(), now_[i].n_held, parts_[i].kind);
    }
    return out;
}

std::vector<cell_run> prompt_cap::room_for(int32_t n) {
    std::vector<cell_run> runs;
    if (!shrink(n, runs)) {
        throw std::logic_error("prompt_cap: a plan that fitted does not fit");
    }
    std::sort(runs.begin(), runs.end(),
              [](const cell_run & a, const cell_run & b) { return a.first < b.first; });
    return runs;
}

std::vector<int32_t> prompt_cap::held() const {
    std::vector<int32_t> out;
    for (const state & s : now_) {
        out.push_back(s.n_held);
    }
    return out;
}

std::vector<cell_run> prompt_cap::leave(int32_t n_most) {
    double n_image = 0, n_text = 0;
    for (size_t i = 0; i < parts_.size(); ++i) {
        (parts_[i].evictable ? n_image : n_text) += now_[i].n_read;
    }
    prompt_cap other = *this; // of other shares; the cap's own stay what they are
    other.image_share_ =
        std::clamp((n_most - n_text) / std::max(n_image, 1.0), least_image_share, 1.0);
    other.n_first_ = n_sinks;
    other.n_last_ = n_most / 8;
    std::vector<cell_run> runs;
    other.shrink(cap_ - n_most, runs, false);
    now_ = other.now_;
    return runs;
}

bool prompt_cap::shrink(int32_t n, std::vector<cell_run> & runs, bool text_too) {
    const int32_t n_all = n_held();
    const std::vector<state> before = now_;
    int32_t missing = n_all + n - cap_;
    for (const bool evictable : {true, false}) {
        int32_t first = 0; // of the part
        for (size_t i = 0; i < parts_.size() && missing > 0 && (evictable || text_too); ++i) {
            const int32_t held = before[i].n_held;
            const int32_t from = std::max(first, n_first_),
                          to = std::min(first + held, n_all - n_last_);
            const int32_t n_keep = std::max(1, floor_of(i) - (held - (to - from)));
            if (parts_[i].evictable == evictable && n_keep < to - from) {
                runs.push_back({from, to - from, n_keep});
                now_[i].n_held -= to - from - n_keep;
                missing -= to - from - n_keep;
            }
            first += held;
        }
    }
    return missing <= 0;
}

size_t prompt_cap::under_way() const {
    size_t i = 0;
    while (i < parts_.size() && now_[i].n_read == parts_[i].n_cells) {
        ++i;
    }
    return i;
}

int32_t prompt_cap::n_next() const {
    const size_t i = under_way();
    if (i == parts_.size()) {
        return 0;
    }
    const int32_t rest = parts_[i].n_cells - now_[i].n_read;
    return parts_[i].whole ? rest : std::min(n_at_once_, rest);
}

void prompt_cap::add(int32_t n) {
    state & s = now_[under_way()];
    s.n_read += n;
    s.n_held += n;
}

} // namespace lookm
