#pragma once

#include <chrono>
#include <exception>

namespace lookm {

// Which threads are at work here, for the two moments that do not wait for them: the process forks,
// or ends.
//
// A forked child has the forking thread alone. Where no other was at work, all of llama.cpp's state
// is at rest and good to go on with, on the CPU. Where one was, locks of ggml, llama.cpp and ours
// may be held by a thread that is not there, and half of what it changed is changed: nothing here
// is touched in such a child.
//
// When the interpreter ends, threads that it does not wait for (daemons) must not return to it and
// must not compute while static objects are destroyed: they are told to stop, and waited for.

// Thrown within work, and by its beginning, once stop_work() was called.
class work_stopped : public std::exception {
  public:
    const char * what() const noexcept override;
};

// While it lives, the calling thread is at work. Its constructor throws std::runtime_error in a
// child that cannot work, and work_stopped.
class at_work {
  public:
    at_work();
    ~at_work();
    at_work(const at_work &) = delete;
    at_work & operator=(const at_work &) = delete;
};

// From now on work of all threads but the calling one ends as soon as it asks, and none begins.
void stop_work();
bool work_is_stopped();    // for the calling thread
void check_work_goes_on(); // throws work_stopped
// Whether no other thread is at work any more.
bool wait_for_work(std::chrono::milliseconds most);

// Forks that lie between the start of the program and this process.
int fork_generation();
// Whether no other thread was at work whenever this process or a forebear was forked, and ggml's
// threads go on.
bool forked_at_rest();
void check_forked_at_rest(); // throws std::runtime_error
// The end of such a message: what to do instead.
extern const char * const instead_of_fork;

} // namespace lookm
