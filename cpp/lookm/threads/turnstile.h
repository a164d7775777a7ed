#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>

namespace lookm::threads {

inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory"); // yield is a no-op on most cores
#endif
}

// How long one thread spins in one kind of wait before it sleeps. To spin saves the tens of
// microseconds that waking up takes; it is a waste where the thread that is waited for needs this
// very core. The last waits tell which it is: one that outlasts its spin halves the next spin, one
// that ends within it doubles the next one. At the bottom nearly every wait outlasts its spin, on
// an idle machine too, where each side waits for the other to wake up. So now and then a thread
// spins in earnest, and stays with it if that helps.
class patience {
  public:
    using ns = std::chrono::nanoseconds;

    explicit patience(ns most) : most_(most), limit_(most) {}

    // Calls done until it is true or the time is over, and returns which.
    template <class Done>
    bool spin(const Done & done) {
        const bool trial = n_slept_ == sleeps_between_trials;
        const ns limit = trial ? trial_length : limit_;
        if (within(limit, done)) {
            limit_ = std::min(most_, trial ? limit : 2 * limit);
            n_slept_ = 0;
            return true;
        }
        limit_ = std::max(least, limit_ / 2);
        n_slept_ = limit_ > least || trial ? 0 : n_slept_ + 1;
        return false;
    }

  private:
    template <class Done>
    static bool within(ns limit, const Done & done) {
        std::chrono::steady_clock::time_point begin = {};
        for (bool first = true;; first = false) {
            for (int i = 0; i < 16;
                 ++i) { // a microsecond or less; the clock takes a good part of one
                if (done()) {
                    return true;
                }
                relax();
            }
            const auto now = std::chrono::steady_clock::now();
            if (first) {
                begin = now;
            }
            if (now - begin + least >= limit) {
                return false;
            }
        }
    }

    static constexpr ns least{1'000}, trial_length{100'000};
    static constexpr int sleeps_between_trials = 500;

    ns most_, limit_;
    int n_slept_ = 0; // in a row, at the bottom
};

// A counter to wait at until another thread has moved it on.
class alignas(64) turnstile {
  public:
    uint32_t now() const { return count_.load(std::memory_order_acquire); }
    void wait_beyond(uint32_t count, patience & p); // until now() is not count
    void advance(); // what was written before it is seen by those who waited

  private:
    std::atomic<uint32_t> count_ = 0;
    std::atomic<uint32_t> n_sleeping_ = 0;
};

} // namespace lookm::threads
