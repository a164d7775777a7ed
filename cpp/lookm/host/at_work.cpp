#include "lookm/host/at_work.h"

#if !defined(_WIN32)
#include <pthread.h>
#endif

#include <atomic>
#include <stdexcept>
#include <string>
#include <thread>

namespace lookm {

namespace {

std::atomic<int> n_at_work = 0; // number of threads
thread_local int depth = 0;     // nested at_work scopes of this thread: callbacks may start work
std::atomic<bool> stopped = false;
thread_local bool stops_others = false;
std::atomic<int> generation = 0;
std::atomic<const char *> unusable = nullptr; // in a child: why it cannot be used

#if defined(LOOKM_OWN_THREADS)
constexpr bool threads_survive = true;
#else
constexpr bool threads_survive = false; // libgomp would wait forever for the parent's threads
#endif

void enter() {
    n_at_work += depth++ == 0 ? 1 : 0;
}

void leave() {
    n_at_work -= --depth == 0 ? 1 : 0;
}

int n_others() {
    return n_at_work - (depth > 0 ? 1 : 0);
}

[[maybe_unused]] void after_fork_in_child() {
    ++generation;
    if (n_others() > 0) {
        unusable = "this process was forked while another thread was working in lookm_cpp, so it "
                   "cannot use it";
    } else if (!threads_survive && !unusable) {
        unusable = "this process was forked after its parent had used lookm_cpp, which this "
                   "build does not support";
    }
    n_at_work = depth > 0 ? 1 : 0;
}

} // namespace

const char * const instead_of_fork = "; expected multiprocessing's start method \"spawn\"";

const char * work_stopped::what() const noexcept {
    return "the interpreter is shutting down";
}

at_work::at_work() {
#if !defined(_WIN32)
    static const int registered = pthread_atfork(nullptr, nullptr, after_fork_in_child);
    static_cast<void>(registered);
#endif
    check_forked_at_rest();
    // first count, then look: either this thread sees stop_work(), or wait_for_work() sees this
    // thread
    enter();
    if (work_is_stopped()) {
        leave();
        throw work_stopped();
    }
}

at_work::~at_work() {
    leave();
}

void stop_work() {
    stops_others = true;
    stopped = true;
}

bool work_is_stopped() {
    return stopped && !stops_others;
}

void check_work_goes_on() {
    if (work_is_stopped()) {
        throw work_stopped();
    }
}

bool wait_for_work(std::chrono::milliseconds most) {
    const auto end = std::chrono::steady_clock::now() + most;
    while (n_others() > 0 && std::chrono::steady_clock::now() < end) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return n_others() == 0;
}

int fork_generation() {
    return generation;
}

bool forked_at_rest() {
    return !unusable;
}

void check_forked_at_rest() {
    if (unusable) {
        throw std::runtime_error(std::string(unusable) + instead_of_fork);
    }
}

} // namespace lookm
