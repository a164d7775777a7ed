#pragma once

#include <algorithm>
#include <cstdint>

namespace lookm {

// Whose turn it is where a prompt is read and answers go on (turns.h): each of the two sides gets
// as much time as the other. A round of an answer is much shorter than one that reads an image, so
// that answers have several rounds after each of the prompt's. For each prompt, they have
// `most_rounds` such rounds, as room is only reserved for so many tokens of an answer meanwhile;
// then every other round is theirs.
class turn_balance {
  public:
    static constexpr int32_t most_rounds = 64;

    bool is_readers() const { return n_others_ < most_rounds ? owed_ <= 0.0 : !readers_last_; }

    // A round has taken this many seconds, in which either the prompt of this task was read or
    // answers went on.
    void took(int32_t task, bool reader, double seconds) {
        if (task != task_) {
            *this = {};
            task_ = task;
        }
        readers_last_ = reader;
        n_others_ += !reader;
        owed_ = std::max(0.0, owed_ + (reader ? seconds : -seconds));
    }

  private:
    int32_t task_ = -1;
    bool readers_last_ = false;
    int32_t n_others_ = 0; // rounds of the others
    double owed_ = 0.0;    // seconds that the reader has had more than the others
};

} // namespace lookm
