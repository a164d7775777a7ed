#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>

namespace lookm::server {

// Sums over the prompts that were compressed.
struct counters {
    uint64_t prompts = 0;
    uint64_t cells_before = 0;
    uint64_t cells_after = 0;
    double seconds = 0.0;
    // shares of attention that prompts hold (auto_ratio.h), of those where it is known
    double attention_held = 0.0;
    uint64_t prompts_with_attention = 0;
};

// What /metrics shows. Written by the thread that decodes, read by any thread.
class metrics {
  public:
    void add(int32_t cells_before, int32_t cells_after, double seconds,
             std::optional<double> attention_held) {
        const std::lock_guard lock(mutex_);
        ++counters_.prompts;
        counters_.cells_before += static_cast<uint64_t>(cells_before);
        counters_.cells_after += static_cast<uint64_t>(cells_after);
        counters_.seconds += seconds;
        counters_.attention_held += attention_held.value_or(0.0);
        counters_.prompts_with_attention += attention_held ? 1 : 0;
    }
    counters count() const {
        const std::lock_guard lock(mutex_);
        return counters_;
    }

    // prompts that went on from a full prefix, and the tokens that they did not read
    std::atomic<uint64_t> prefixes_restored = 0, tokens_restored = 0;
    std::atomic<uint64_t> prompts_repeated = 0; // that came again exactly
    // of full prefixes and of compressed prompts
    std::atomic<uint64_t> prefix_bytes = 0, compressed_prompt_bytes = 0;
    std::atomic<int32_t> cells_used = 0;
    std::atomic<int32_t> cells_allocated = 0;

  private:
    mutable std::mutex mutex_;
    counters counters_;
};

} // namespace lookm::server
