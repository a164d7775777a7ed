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

// How bindings leave Python for work and come back to it.
//
// Up to Python 3.13, a thread that asks for the GIL while the interpreter ends is ended there and
// then, by pthread_exit(). glibc unwinds its stack for that, and the destructors and the catch
// (...) that it meets on the way end the process. Such a thread stays where it is instead, until
// the process is gone; from Python 3.14 on it does so by itself.

// Calls f, which asks for the GIL and has nothing to destroy then.
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

// While it lives: the calling thread is at work, without the GIL. Throws as at_work does.
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

// While it lives, Python can be called in the middle of work. Throws lookm::work_stopped.
class with_gil {
  public:
    with_gil() {
        lookm::check_work_goes_on();
        stay_if_python_ends([this] { gil_.emplace(); });
    }
    with_gil(const with_gil &) = delete;
    with_gil & operator=(const with_gil &) = delete;

    void check_signals() const { // Ctrl-C
        int status = 0;
        stay_if_python_ends([&] { status = PyErr_CheckSignals(); });
        if (status != 0) {
            throw pybind11::error_already_set();
        }
    }

    // Arguments as of Py_BuildValue; no format for none. Throws std::runtime_error in a child that
    // the function has forked: the work's other threads are not there.
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
                std::string("this process was forked by a callback within an answer, which cannot "
                            "go on here") +
                lookm::instead_of_fork);
        }
        return owned;
    }

  private:
    int generation_ = lookm::fork_generation();
    std::optional<pybind11::gil_scoped_acquire> gil_;
};
