#pragma once

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <list>
#include <memory>
#include <utility>

namespace lookm {

// Things that take memory, up to a number of bytes in all: what was used least recently goes first.
// Whoever still holds a thing keeps it alive. T has a member function size_t bytes() const.
template <class T>
class byte_budget {
  public:
    explicit byte_budget(size_t most = 0) : most_(most) {}

    size_t most() const { return most_; }
    size_t bytes() const { return bytes_; }
    size_t size() const { return things_.size(); }
    auto begin() const { return things_.begin(); }
    auto end() const { return things_.end(); }
    bool fits(size_t bytes) const { return bytes <= most_; }

    void limit(size_t most) {
        most_ = most;
        drop_until_all_fit();
    }

    // Takes a thing as the most recently used one; others go until all fit. One that does not fit
    // by itself is dropped.
    void add(std::shared_ptr<const T> thing) {
        if (!fits(thing->bytes())) {
            return;
        }
        bytes_ += thing->bytes();
        things_.push_front(std::move(thing));
        drop_until_all_fit();
    }

    void use(const std::shared_ptr<const T> & thing) {
        const auto at = std::find(things_.begin(), things_.end(), thing);
        if (at != things_.end()) {
            things_.splice(things_.begin(), things_, at);
        }
    }

    template <class Which>
    void drop_if(const Which & which) {
        for (auto i = things_.begin(); i != things_.end();) {
            i = which(**i) ? drop(i) : std::next(i);
        }
    }

  private:
    void drop_until_all_fit() {
        while (bytes_ > most_) {
            drop(std::prev(things_.end()));
        }
    }

    using place = typename std::list<std::shared_ptr<const T>>::iterator;
    place drop(place at) {
        bytes_ -= (*at)->bytes();
        return things_.erase(at);
    }

    size_t most_, bytes_ = 0;
    std::list<std::shared_ptr<const T>> things_; // most recently used first
};

} // namespace lookm
