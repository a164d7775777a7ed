// The part of the GNU OpenMP ABI that ggml's CPU backend calls, implemented with teams (team.h)
// instead of libgomp. libgomp's barriers spin for milliseconds even if another thread needs the
// core, and how long is read from the environment only when the process loads its first libgomp,
// which may be another package's.
//
// Only code that is linked statically with this file sees these names, so they do not interfere
// with another OpenMP in the process, such as torch's.

#include "lookm/threads/team.h"

#include <sched.h>

#include <algorithm>
#include <climits>
#include <cstdlib>

namespace {

unsigned number_in_environment(const char * name, unsigned otherwise) {
    const char * text = std::getenv(name);
    // of a list, the first number counts: nested runs have one thread
    const long n = text ? std::strtol(text, nullptr, 10) : 0;
    return n > 0 ? static_cast<unsigned>(n) : otherwise;
}

unsigned n_cpus() {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof(set), &set) == 0 ? static_cast<unsigned>(CPU_COUNT(&set))
                                                        : 1;
}

} // namespace

extern "C" {

void GOMP_parallel(void (*fn)(void *), void * data, unsigned n_threads, unsigned /*flags*/) {
    static const unsigned usual = number_in_environment("OMP_NUM_THREADS", n_cpus());
    static const unsigned most = number_in_environment("OMP_THREAD_LIMIT", UINT_MAX);
    lookm::threads::run(fn, data, std::min(n_threads > 0 ? n_threads : usual, most));
}

void GOMP_barrier(void) {
    lookm::threads::barrier();
}

bool GOMP_single_start(void) {
    return lookm::threads::here().index == 0; // any single thread will do
}

int omp_get_thread_num(void) {
    return static_cast<int>(lookm::threads::here().index);
}

int omp_get_num_threads(void) {
    return static_cast<int>(lookm::threads::here().n);
}
}
