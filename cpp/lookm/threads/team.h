#pragma once

#include "lookm/threads/turnstile.h"

#include <memory>
#include <vector>

namespace lookm::threads {

using work_fn = void (*)(void * data);

// One thread and the helpers that it has called so far; they live as long as it does. Helpers that
// a run has no use for sleep through it.
class team {
  public:
    team();
    ~team();
    team(const team &) = delete;
    team & operator=(const team &) = delete;

    // fn(data) on the calling thread, which must be the team's own, and on n - 1 helpers; fewer
    // where the system has no more threads. Returns when all have returned.
    void run(work_fn fn, void * data, unsigned n);

    // Of one of the n threads within a run: waits for all others.
    void barrier(unsigned n, patience & p);

  private:
    class helper;

    unsigned with_helpers(unsigned n);

    work_fn fn_ = nullptr; // these three are written while no helper runs, and null ends it
    void * data_ = nullptr;
    unsigned n_ = 1;
    turnstile phase_; // moves on when all have arrived
    alignas(64) std::atomic<unsigned> n_arrived_ = 0;
    std::vector<std::unique_ptr<helper>> helpers_;
};

// What the calling thread is in the innermost run that it is part of: alone where there is none.
struct place {
    team * in = nullptr;
    unsigned index = 0;
    unsigned n = 1;
};
const place & here();

// fn(data) n times at once on a team of the calling thread's own, or once within a run: runs do not
// nest.
void run(work_fn fn, void * data, unsigned n);

// Waits for the other threads of the run.
void barrier();

} // namespace lookm::threads
