#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>

namespace lookm::server {

// Sums over the prompts that were compressed.
struct counters {
    uint64_t prompts = 0;
    uint64_t cells_before = 0;
    uint64_t cells_after = 0;
    double seconds = 0.0;
};

// What /metrics shows. Written by the thread that decodes, read by any thread.
class metrics {
  public:
    void add(int32_t cells_before, int32_t cells_after, double seconds) {
        const std::lock_guard lock(mutex_);
        ++counters_.prompts;
        counters_.cells_before += static_cast<uint64_t>(cells_before);
        counters_.cells_after += static_cast<uint64_t>(cells_after);
        counters_.seconds += seconds;
    }
    counters count() const {
        const std::lock_guard lock(mutex_);
        return counters_;
    }

    std::atomic<int32_t> cells_used = 0;
    std::atomic<int32_t> cells_allocated = 0;

  private:
    mutable std::mutex mutex_;
    counters counters_;
};

} // namespace lookm::server
