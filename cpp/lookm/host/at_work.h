#pragma once

#include <chrono>
#include <exception>

namespace lookm {

// Tracks which threads are working in this library, for two events that do not wait for them: the
// process forks, or it ends.
//
// A forked child has only the thread that forked. If no other thread was at work then, the state of
// llama.cpp is consistent and can be used in the child, on the CPU. Otherwise a thread that no
// longer exists may hold locks and may have left changes half done, so such a child must not use
// any of it.
//
// When the interpreter ends, it does not wait for daemon threads. They must not return to it, nor
// compute while static objects are destroyed, so they are told to stop and are waited for.

// Thrown by at_work and check_work_goes_on() after stop_work() was called.
class work_stopped : public std::exception {
  public:
    const char * what() const noexcept override;
};

// The calling thread is at work while this object lives; scopes may be nested. The constructor
// throws work_stopped after stop_work(), and std::runtime_error in a forked child that cannot work.
class at_work {
  public:
    at_work();
    ~at_work();
    at_work(const at_work &) = delete;
    at_work & operator=(const at_work &) = delete;
};

// From now on, all threads except the calling one stop working at their next check, and no new work
// begins.
void stop_work();
bool work_is_stopped();    // whether the calling thread is to stop
void check_work_goes_on(); // throws work_stopped if so
// Waits until no other thread is at work, at most this long. Returns whether that is so.
bool wait_for_work(std::chrono::milliseconds most);

// Number of forks between the start of the program and this process.
int fork_generation();
// Whether this process can use the library: no other thread was at work when it or one of its
// parents was forked, and the threads of ggml survive a fork in this build. True if nothing was
// forked.
bool forked_at_rest();
void check_forked_at_rest(); // throws std::runtime_error if not
// The end of such an error message, which says what to do instead.
extern const char * const instead_of_fork;

} // namespace lookm
