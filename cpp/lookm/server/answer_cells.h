#pragma once

#include "llama.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <utility>

namespace lookm::server {

// A slot's answer: its task, and the position of its first token.
struct slot_answer {
    int32_t slot;
    int32_t task;
    llama_pos begin;
};

// Which part of an answer is left, for each slot: its oldest cells are dropped when a slot is full.
class answer_cells {
  public:
    // Positions [first, last) to drop, so that n_over more tokens fit at position pos. At least
    // half of the answer goes at once: n tokens then cause O(log n) gaps in the cache.
    std::pair<llama_pos, llama_pos> drop(const slot_answer & a, llama_pos pos, int32_t n_over) {
        auto & [task, first] = by_slot_.try_emplace(a.slot, -1, 0).first->second;
        if (task != a.task) {
            task = a.task;
            first = a.begin;
        }
        const llama_pos begin = first;
        first = std::max(first, std::min(pos, first + std::max(n_over, (pos - first) / 2)));
        return {begin, first};
    }

  private:
    std::map<int32_t, std::pair<int32_t, llama_pos>> by_slot_; // task, where its answer begins now
};

} // namespace lookm::server
