#include "threads_module.h"

#include <pybind11/stl.h>

#include <numeric>
#include <tuple>
#include <utility>
#include <vector>

#include <omp.h>

namespace py = pybind11;
using namespace py::literals;

namespace {

struct alignas(64) slot {
    int value = 0; // not atomic: only barriers order the writes and reads of the threads
};

// Threads go through n_rounds in step. Returns the number of threads, how often the "single" block
// ran, the index of each thread, and how often a thread found another one in a different round.
std::tuple<int, int, std::vector<int>, int> parallel_rounds(int n_threads, int n_rounds) {
    int n = 0, n_single = 0;
    std::vector<int> index(n_threads, -1), wrong(n_threads);
    std::vector<slot> rounds(n_threads);
#pragma omp parallel num_threads(n_threads)
    {
#pragma omp single
        {
            n = omp_get_num_threads();
            ++n_single;
        }
        const int me = omp_get_thread_num();
        index[me] = me;
        for (int round = 1; round <= n_rounds; ++round) {
            rounds[me].value = round;
#pragma omp barrier
            for (int i = 0; i < n; ++i) {
                wrong[me] += rounds[i].value != round;
            }
#pragma omp barrier
        }
    }
    return {n, n_single, index, std::accumulate(wrong.begin(), wrong.end(), 0)};
}

// For each of two threads: the number of threads of a nested team of two that it asks for, and the
// number that it sees after that.
std::vector<std::pair<int, int>> parallel_nested() {
    std::vector<std::pair<int, int>> seen(2);
#pragma omp parallel num_threads(2)
    {
        int inner = 0;
#pragma omp parallel num_threads(2)
        {
#pragma omp barrier
            inner += omp_get_num_threads();
        }
#pragma omp barrier
        seen[omp_get_thread_num()] = {inner, omp_get_num_threads()};
    }
    return seen;
}

} // namespace

void bind_threads(py::module_ & m) {
    const py::call_guard<py::gil_scoped_release> nogil;
    m.def("parallel_rounds", &parallel_rounds, "n_threads"_a, "n_rounds"_a, nogil);
    m.def("parallel_nested", &parallel_nested, nogil);
}
