// A time limit for ggml's RPC client, which would wait forever for a server that sends nothing.
// lookm_limit_rpc() in llama_cpp.cmake makes its transport call this instead of recv().

#include "rpc_recv.h"

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <poll.h>
#include <sys/socket.h>

namespace {

std::atomic<int> most_seconds = 0; // 0: no limit, as for a server that waits for its clients

} // namespace

void lookm_rpc_wait_at_most(int seconds) {
    most_seconds = seconds;
}

extern "C" ssize_t lookm_rpc_recv(int fd, void * data, size_t size, int flags) {
    if (const int seconds = most_seconds; seconds > 0) {
        pollfd readable = {fd, POLLIN, 0};
        int n = 0;
        while ((n = poll(&readable, 1, 1000 * seconds)) < 0 && errno == EINTR) {
        }
        if (n == 0) {
            std::fprintf(
                stderr,
                "lookm: an RPC server has said nothing for %d seconds (LOOKM_RPC_SECONDS)\n",
                seconds);
            errno = ETIMEDOUT;
            return -1; // as if the connection was closed
        }
    }
    return recv(fd, data, size, flags);
}
