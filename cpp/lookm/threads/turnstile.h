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

// How long one thread spins in one kind of wait before it sleeps. Spinning saves the tens of
// microseconds that waking up takes, but it is a waste if the awaited thread needs this very core.
// Recent waits show which is the case: a wait that outlasts its spin halves the next spin, one that
// ends within its spin doubles the next one. At the shortest spin nearly every wait outlasts it,
// even on an idle machine, where each side waits for the other to wake up. So now and then a thread
// tries a long spin, and keeps to long spins if that helps.
class patience {
  public:
    using ns = std::chrono::nanoseconds;

    explicit patience(ns most) : most_(most), limit_(most) {}

    // Calls done() until it returns true or the time is over. Returns whether it returned true.
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
            // 16 times take at most a microsecond; reading the clock takes a good part of one
            for (int i = 0; i < 16; ++i) {
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
    int n_slept_ = 0; // consecutive sleeps at the shortest spin
};

// A counter at which threads wait until another thread advances it.
class alignas(64) turnstile {
  public:
    uint32_t now() const { return count_.load(std::memory_order_acquire); }
    void wait_beyond(uint32_t count, patience & p); // until now() differs from count
    void advance(); // adds 1; threads that waited see everything written before it

  private:
    std::atomic<uint32_t> count_ = 0;
    std::atomic<uint32_t> n_sleeping_ = 0;
};

} // namespace lookm::threads
