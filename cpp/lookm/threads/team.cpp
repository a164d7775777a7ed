#include "lookm/threads/team.h"

#include <pthread.h>

#include <system_error>
#include <thread>

namespace lookm::threads {

namespace {

using namespace std::chrono_literals;

// The longest that a thread spins before it sleeps. Within a run the other threads are working, and
// a wait that takes this long means that one of them has no core. Between runs the caller prepares
// the next one, for example by sampling a token.
constexpr auto most_within_run = 500us;
constexpr auto most_between_runs = 2ms;

struct thread_state {
    place at;
    bool in_run = false;
    patience barriers{most_within_run};
    std::unique_ptr<team> own;
};

thread_local thread_state self;

// A forked child has only the calling thread. Its helpers are gone and cannot be joined, so the
// team is leaked instead of destroyed. If the fork happened within a run (in ggml's abort
// callback), the others' part of the work is never done: barriers no longer wait for them, and the
// caller of the run must discard the result.
void after_fork_in_child() {
    static_cast<void>(self.own.release());
    self.at = {};
}

} // namespace

class team::helper {
  public:
    helper(team & t, unsigned index) : team_(t), index_(index), thread_([this] { serve(); }) {}
    ~helper() { thread_.join(); }
    helper(const helper &) = delete;
    helper & operator=(const helper &) = delete;

    turnstile start; // advances once for each run

  private:
    void serve() {
        self.in_run = true;
        patience between{most_between_runs};
        for (uint32_t n_runs = 0;; ++n_runs) {
            start.wait_beyond(n_runs, between);
            if (!team_.fn_) {
                return;
            }
            self.at = {&team_, index_, team_.n_};
            team_.fn_(team_.data_);
            threads::barrier();
        }
    }

    team & team_;
    unsigned index_;
    std::thread thread_;
};

team::team() {
    static const int registered = pthread_atfork(nullptr, nullptr, after_fork_in_child);
    static_cast<void>(registered);
}

team::~team() {
    fn_ = nullptr;
    for (const auto & h : helpers_) {
        h->start.advance();
    }
}

unsigned team::with_helpers(unsigned n) {
    try {
        while (helpers_.size() + 1 < n) {
            helpers_.push_back(
                std::make_unique<helper>(*this, static_cast<unsigned>(helpers_.size() + 1)));
        }
    } catch (const std::system_error &) { // the system has no more threads
        return static_cast<unsigned>(helpers_.size() + 1);
    }
    return n;
}

void team::run(work_fn fn, void * data, unsigned n) {
    n_ = with_helpers(n);
    fn_ = fn;
    data_ = data;
    for (unsigned i = 0; i + 1 < n_; ++i) {
        helpers_[i]->start.advance();
    }
    self.at = {this, 0, n_};
    self.in_run = true;
    fn(data);
    threads::barrier();
    self.in_run = false;
    self.at = {};
}

void team::barrier(unsigned n, patience & p) {
    const uint32_t phase = phase_.now();
    if (n_arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == n) {
        n_arrived_.store(0, std::memory_order_relaxed);
        phase_.advance();
    } else {
        phase_.wait_beyond(phase, p);
    }
}

const place & here() {
    return self.at;
}

void run(work_fn fn, void * data, unsigned n) {
    if (n > 1 && !self.in_run) {
        if (!self.own) {
            self.own = std::make_unique<team>();
        }
        self.own->run(fn, data, n);
        return;
    }
    const place outer = self.at;
    self.at = {};
    fn(data);
    self.at = outer;
}

void barrier() {
    if (self.at.n > 1) {
        self.at.in->barrier(self.at.n, self.barriers);
    }
}

} // namespace lookm::threads
