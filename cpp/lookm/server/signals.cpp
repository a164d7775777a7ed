#include "lookm/server/signals.h"

#if !defined(_WIN32)

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <thread>
#include <unistd.h>

namespace lookm::server {

namespace {

constexpr std::chrono::seconds grace{2};

std::atomic<void (*)(int)> handler_aside = nullptr;
std::atomic<int> n_signals = 0;
int pipe_ends[2] = {-1, -1};

// Calls only functions that POSIX allows in signal handlers.
extern "C" void pass_on(int signal) {
    const auto number = static_cast<unsigned char>(signal);
    if (n_signals.fetch_add(1) > 0 || write(pipe_ends[1], &number, 1) != 1) {
        _exit(EXIT_FAILURE);
    }
}

void call_handler() {
    unsigned char number = 0;
    if (read(pipe_ends[0], &number, 1) == 1) {
        handler_aside.load()(number);
        std::this_thread::sleep_for(grace);
        std::_Exit(EXIT_SUCCESS); // destructors would wait for the same clients
    }
}

} // namespace

void handle_aside(int signal, void (*handler)(int)) {
    if (!handler_aside.exchange(handler)) {
        if (pipe(pipe_ends) != 0) {
            std::signal(signal, handler);
            return;
        }
        std::thread(call_handler).detach();
    }
    std::signal(signal, pass_on);
}

} // namespace lookm::server

#endif
