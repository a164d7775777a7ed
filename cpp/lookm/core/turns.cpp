#include "lookm/core/turns.h"

#include <algorithm>
#include <utility>

namespace lookm {

namespace {

constexpr int32_t n_unlimited = 64; // tokens to expect of an answer without a limit
constexpr int32_t n_meanwhile = 64; // tokens of an answer while another slot's prompt is read
constexpr int32_t n_at_once = 16;   // tokens of an answer in one round, with drafts

// llama-server refuses it as soon as it starts, so it does not wait for anything.
bool is_too_long(const slot_view & s) {
    return s.completes && s.n_prompt >= s.n_ctx;
}

bool starts(const slot_view & s) {
    return s.phase == slot_phase::starts && !is_too_long(s);
}

bool reads(const slot_view & s) {
    return s.phase == slot_phase::reads;
}

bool is_under_way(const slot_view & s) {
    return reads(s) || s.phase == slot_phase::answers;
}

bool goes_on(const slot_view & s) {
    return starts(s) || is_under_way(s);
}

// Its cells belong to an earlier request.
bool rests(const slot_view & s) {
    return s.n_held > 0 && !is_under_way(s);
}

// A slot that still holds a longer prompt makes room for itself first.
int32_t n_unread(const slot_view & s) {
    return std::max(0, s.n_prompt - s.n_held);
}

// Prompts that have begun come first, then those that arrived first.
auto rank(const slot_view & s) {
    return std::pair(s.phase == slot_phase::starts, s.task);
}

bool is_among(const slot_view & s, const std::vector<const slot_view *> & some) {
    return std::find(some.begin(), some.end(), &s) != some.end();
}

// Cells now, and when all answers have ended: those that are left, or those that a prompt takes.
struct room {
    int32_t now = 0;
    int32_t at_the_end = 0;
};

class round_planner {
  public:
    round_planner(std::span<const slot_view> slots, const cache_view & cache)
        : slots_(slots.begin(), slots.end()), cache_(cache) {
        for (slot_view & s : slots_) {
            by_rank_.push_back(&s);
        }
        std::stable_sort(by_rank_.begin(), by_rank_.end(),
                         [](const auto * a, const auto * b) { return rank(*a) < rank(*b); });
    }

    round_plan plan(bool readers_turn) {
        choose_turns();
        hold_those_who_wait();
        if (next_ && next_->observed && !is_held(*next_)) {
            separate_reader(readers_turn);
        }
        if (cache_.shared) {
            clear_for_answers();
        }
        return std::move(plan_);
    }

  private:
    // Counts of cells

    static int32_t n_free(const cache_view & cache) {
        return cache.n_free_draft ? std::min(cache.n_free, *cache.n_free_draft) : cache.n_free;
    }

    static void add_cells_of(const slot_view & s, cache_view & cache) {
        cache.n_free += s.n_cells;
        if (cache.n_free_draft) {
            *cache.n_free_draft += s.n_held;
        }
    }

    // Cells that are free, or would be if all resting slots were cleared. A prompt that starts in
    // this round keeps what it holds, and so does s.
    int32_t n_obtainable(const slot_view & s) const {
        cache_view cache = cache_;
        for (const slot_view & other : slots_) {
            if (&other != &s && rests(other) && !is_among(other, starting_)) {
                add_cells_of(other, cache);
            }
        }
        return n_free(cache);
    }

    // Cells for the rest of a slot's answer, at most an even share of the cache: requests ask for
    // large numbers that few answers reach.
    int32_t n_answer(const slot_view & s) const {
        if (!s.completes) {
            return 0;
        }
        const int32_t n_share = cache_.n_cells / static_cast<int32_t>(slots_.size());
        const int32_t n_left =
            s.n_answer_max ? std::min(*s.n_answer_max - s.n_answered, n_share) : n_unlimited;
        return std::clamp(n_left, 0, std::max(0, s.n_ctx - s.n_prompt - s.n_answered));
    }

    // The same for a prompt's answer and those of its children.
    int32_t n_answers_of(const slot_view & s) const {
        int32_t n = n_answer(s);
        for (const slot_view & child : slots_) {
            if (child.phase == slot_phase::waits_for_parent && child.parent == s.task) {
                n += n_answer(child);
            }
        }
        return n;
    }

    // Cells that all slots under way except one may take while that one is read.
    int32_t n_growing(const slot_view * except) const {
        int32_t n = 0;
        for (const slot_view & s : slots_) {
            if (&s != except && is_under_way(s)) {
                n += n_meanwhile + (reads(s) ? n_unread(s) : 0);
            }
        }
        return n;
    }

    // Cells that all slots under way except one will take until their answers end.
    int32_t n_to_come(const slot_view * except) const {
        int32_t n = 0;
        for (const slot_view & s : slots_) {
            if (&s != except && is_under_way(s)) {
                n += n_answers_of(s) + (reads(s) ? n_unread(s) : 0);
            }
        }
        return n;
    }

    // Cells that a prompt takes. An observed one has been compressed when its answer ends.
    room needs(const slot_view & s) const {
        const int32_t n = n_unread(s);
        const bool shrinks = s.observed && !cache_.n_free_draft;
        return {n, (shrinks ? static_cast<int32_t>(s.ratio * n) : n) + n_answers_of(s)};
    }

    // Whether a prompt that starts finds no room next to those that have begun or will.
    bool lacks_room(const slot_view & s) const {
        room left = {n_free(cache_) - n_growing(nullptr), n_obtainable(s) - n_to_come(nullptr)};
        for (const slot_view * other : starting_) {
            const room taken = needs(*other);
            left = {left.now - taken.now, left.at_the_end - taken.at_the_end};
        }
        const room own = needs(s);
        return own.now > left.now || own.at_the_end > left.at_the_end;
    }

    // Whose turn it is

    void add_turn(slot_view & s) {
        in_turn_.push_back(&s);
        next_ = !next_ || rank(s) < rank(*next_) ? &s : next_;
        starting_.clear();
        if (starts(*next_)) {
            starting_.push_back(next_);
        }
    }

    // Prompts of which one is read at a time: observed ones, those with images, and those that
    // find no room next to the first of them. Without a turn, the latter would wait as long as
    // others keep coming.
    void choose_turns() {
        for (slot_view * s : by_rank_) {
            if ((starts(*s) || reads(*s)) && s->completes && (s->has_images || s->observed)) {
                add_turn(*s);
            }
        }
        if (!cache_.shared) {
            return;
        }
        const auto needs_turn = [this](const slot_view * s) {
            return starts(*s) && !is_among(*s, in_turn_) && lacks_room(*s);
        };
        for (auto at = std::find_if(by_rank_.begin(), by_rank_.end(), needs_turn);
             at != by_rank_.end();
             at = std::find_if(by_rank_.begin(), by_rank_.end(), needs_turn)) {
            add_turn(**at);
            lack_room_.push_back(*at);
        }
    }

    // Room

    void clear(slot_view & s) {
        plan_.cleared.push_back(s.id);
        add_cells_of(s, cache_);
        s.n_held = s.n_cells = 0;
    }

    // Clears slots until n cells are free, the longest unused first. Returns whether they are.
    template <class MayGo>
    bool clear_until_free(int32_t n, MayGo && may_go) {
        while (n_free(cache_) < n) {
            slot_view * oldest = nullptr;
            for (slot_view & s : slots_) {
                if (rests(s) && may_go(s) && (!oldest || s.last_used < oldest->last_used)) {
                    oldest = &s;
                }
            }
            if (!oldest) {
                return false;
            }
            clear(*oldest);
        }
        return true;
    }

    // Makes room for the next prompt, or for the rest of it. Returns whether it goes on: if there
    // is nobody to wait for, it does, and llama-server says that the context is too small.
    bool make_room_for_next() {
        const int32_t n_others = n_growing(next_);
        if (starts(*next_) && n_others > 0 &&
            n_obtainable(*next_) < needs(*next_).at_the_end + n_to_come(next_)) {
            return false;
        }
        return clear_until_free(n_unread(*next_) + n_others,
                                [this](const slot_view & s) { return &s != next_; }) ||
               n_others == 0;
    }

    // Rounds

    bool is_held(const slot_view & s) const {
        return std::find(plan_.held.begin(), plan_.held.end(), s.id) != plan_.held.end();
    }

    void hold(const slot_view & s) { plan_.held.push_back(s.id); }

    void hold_those_who_wait() {
        const bool has_room = !next_ || !cache_.shared || make_room_for_next();
        const bool next_goes = has_room || !starts(*next_);
        if (!next_goes) {
            starting_.clear();
        }
        bool someone_waits = false; // for room, which nobody who came later may take
        for (slot_view * s : by_rank_) {
            if (is_among(*s, in_turn_)) {
                someone_waits =
                    someone_waits || (s == next_ ? !next_goes : is_among(*s, lack_room_));
                if (s != next_ || (starts(*s) && someone_waits)) {
                    hold(*s);
                }
            } else if (cache_.shared && starts(*s)) {
                someone_waits = someone_waits || lacks_room(*s);
                if (someone_waits) {
                    hold(*s);
                } else {
                    starting_.push_back(s);
                }
            }
        }
    }

    // An observed prompt is read by itself.
    void separate_reader(bool readers_turn) {
        const auto is_other = [this](const slot_view & s) {
            return &s != next_ && goes_on(s) && !is_held(s);
        };
        plan_.reader = next_->id;
        if (std::none_of(slots_.begin(), slots_.end(), is_other)) {
            return;
        }
        plan_.alternates = next_->task;
        if (!readers_turn) {
            hold(*next_);
            plan_.reader = -1;
            return;
        }
        for (const slot_view & s : slots_) {
            if (is_other(s)) {
                hold(s);
            }
        }
    }

    // llama-server frees the cells of idle slots when answers need them, but not those of slots
    // that are held or wait for their parents.
    void clear_for_answers() {
        const auto n = std::count_if(slots_.begin(), slots_.end(), [this](const slot_view & s) {
            return s.phase == slot_phase::answers && !is_held(s);
        });
        clear_until_free(static_cast<int32_t>(n) * n_at_once, [this](const slot_view & s) {
            return is_held(s) || s.phase == slot_phase::waits_for_parent;
        });
    }

    std::vector<slot_view> slots_;
    std::vector<slot_view *> by_rank_;
    cache_view cache_;
    std::vector<const slot_view *> in_turn_;   // prompts of which one is read at a time
    std::vector<const slot_view *> lack_room_; // those of them for which there is no room
    std::vector<const slot_view *> starting_;  // prompts whose room nobody else may have
    const slot_view * next_ = nullptr;         // whose turn it is
    round_plan plan_;
};

} // namespace

round_plan plan_round(std::span<const slot_view> slots, const cache_view & cache,
                      bool readers_turn) {
    return round_planner(slots, cache).plan(readers_turn);
}

} // namespace lookm
