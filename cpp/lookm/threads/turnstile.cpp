#include "lookm/threads/turnstile.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>

namespace lookm::threads {

namespace {

static_assert(sizeof(std::atomic<uint32_t>) == sizeof(uint32_t)); // the kernel reads it

void futex(std::atomic<uint32_t> & word, int operation, uint32_t value) {
    syscall(SYS_futex, &word, operation | FUTEX_PRIVATE_FLAG, value, nullptr, nullptr, 0);
}

} // namespace

void turnstile::wait_beyond(uint32_t count, patience & p) {
    if (now() != count || p.spin([&] { return now() != count; })) {
        return;
    }
    // Either advance() sees this sleeper, or the kernel sees the new count and returns at once.
    n_sleeping_.fetch_add(1, std::memory_order_seq_cst);
    while (count_.load(std::memory_order_seq_cst) == count) {
        futex(count_, FUTEX_WAIT, count);
    }
    n_sleeping_.fetch_sub(1, std::memory_order_relaxed);
}

void turnstile::advance() {
    count_.fetch_add(1, std::memory_order_seq_cst);
    if (n_sleeping_.load(std::memory_order_seq_cst) > 0) {
        futex(count_, FUTEX_WAKE, INT_MAX);
    }
}

} // namespace lookm::threads
