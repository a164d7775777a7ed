#pragma once

#include "lookm/threads/turnstile.h"

#include <memory>
#include <vector>

namespace lookm::threads {

using work_fn = void (*)(void * data);

// A thread and the helper threads that it has started so far, which live as long as it does.
// Helpers that a run does not need sleep through it.
class team {
  public:
    team();
    ~team();
    team(const team &) = delete;
    team & operator=(const team &) = delete;

    // Calls fn(data) on the calling thread, which must be the one that owns the team, and on n - 1
    // helpers, or on fewer if the system has no more threads. Returns when all calls have returned.
    void run(work_fn fn, void * data, unsigned n);

    // Called by each of the n threads of a run: waits for all others.
    void barrier(unsigned n, patience & p);

  private:
    class helper;

    unsigned with_helpers(unsigned n);

    // written only while no helper runs; a null fn_ ends the helpers
    work_fn fn_ = nullptr;
    void * data_ = nullptr;
    unsigned n_ = 1;
    turnstile phase_; // advances when all threads have arrived at the barrier
    alignas(64) std::atomic<unsigned> n_arrived_ = 0;
    std::vector<std::unique_ptr<helper>> helpers_;
};

// The calling thread's position in the innermost run that it is part of: number `index` of `n`
// threads. Outside of runs, number 0 of 1.
struct place {
    team * in = nullptr;
    unsigned index = 0;
    unsigned n = 1;
};
const place & here();

// Calls fn(data) on n threads at the same time, using the calling thread's own team. Runs do not
// nest: within a run, fn is called once on the calling thread.
void run(work_fn fn, void * data, unsigned n);

// Waits for the other threads of the run.
void barrier();

} // namespace lookm::threads
