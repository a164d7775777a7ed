#pragma once

#include "lookm/host/at_work.h"

#include <pybind11/pybind11.h>

#include <chrono>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>

#if defined(__GLIBCXX__)
#include <cxxabi.h>
#endif

// How bindings release the GIL for work and take it again.
//
// Up to Python 3.13, a thread that asks for the GIL while the interpreter ends is ended immediately
// by pthread_exit(). glibc then unwinds its stack, and a destructor or a catch (...) on the way
// ends the process. Here, such a thread waits until the process is gone instead; from Python 3.14
// on, Python does that itself.

// Calls f, which asks for the GIL. Nothing in f may need to be destroyed at that point.
template <class F>
void stay_if_python_ends(const F & f) {
#if defined(__GLIBCXX__)
    try {
        f();
    } catch (const abi::__forced_unwind &) {
        for (;;) {
            std::this_thread::sleep_for(std::chrono::hours(1));
        }
    }
#else
    f();
#endif
}

// The calling thread is at work without the GIL while this object lives. The constructor throws
// what at_work throws.
class without_gil {
  public:
    without_gil() : state_(PyEval_SaveThread()) {}
    ~without_gil() {
        stay_if_python_ends([this] { PyEval_RestoreThread(state_); });
    }
    without_gil(const without_gil &) = delete;
    without_gil & operator=(const without_gil &) = delete;

  private:
    lookm::at_work work_;
    PyThreadState * state_;
};

// The calling thread holds the GIL in the middle of work while this object lives. The constructor
// throws lookm::work_stopped.
class with_gil {
  public:
    with_gil() {
        lookm::check_work_goes_on();
        stay_if_python_ends([this] { gil_.emplace(); });
    }
    with_gil(const with_gil &) = delete;
    with_gil & operator=(const with_gil &) = delete;

    // Raises KeyboardInterrupt after Ctrl-C.
    void check_signals() const {
        int status = 0;
        stay_if_python_ends([&] { status = PyErr_CheckSignals(); });
        if (status != 0) {
            throw pybind11::error_already_set();
        }
    }

    // Calls a Python function; format and args as for Py_BuildValue, nullptr without arguments.
    // Throws std::runtime_error in a child that the function has forked, as the work's other
    // threads do not exist there.
    template <class... Args>
    pybind11::object call(const pybind11::object & function, const char * format,
                          Args... args) const {
        PyObject * result = nullptr;
        stay_if_python_ends(
            [&] { result = PyObject_CallFunction(function.ptr(), format, args...); });
        if (!result) {
            throw pybind11::error_already_set();
        }
        auto owned = pybind11::reinterpret_steal<pybind11::object>(result);
        if (generation_ != lookm::fork_generation()) {
            throw std::runtime_error(
                std::string("this process was forked by a callback during an answer, which cannot "
                            "continue here") +
                lookm::instead_of_fork);
        }
        return owned;
    }

  private:
    int generation_ = lookm::fork_generation();
    std::optional<pybind11::gil_scoped_acquire> gil_;
};
