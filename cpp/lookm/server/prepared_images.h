#pragma once

#include "lookm/core/byte_budget.h"
#include "lookm/prompt/image_chunks.h"

#include "mtmd.h"

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

namespace lookm::server {

// An image file, decoded and cut into what the encoder takes.
struct prepared_image {
    std::vector<uint8_t> file;
    known_image known;
    std::vector<mtmd::input_chunk_ptr> pieces;

    size_t bytes() const;
};

// Images of earlier requests. Every request of a conversation brings all of its images again, and
// to decode a photo and to scale it takes longer than to answer from cells that are there. Any
// thread may call it.
class prepared_images {
  public:
    explicit prepared_images(size_t most_bytes) : kept_(most_bytes) {}

    // null: not there
    std::shared_ptr<const prepared_image> find(std::span<const uint8_t> file);
    void keep(std::span<const uint8_t> file, const known_image & known,
              std::span<const mtmd_input_chunk * const> pieces);

    uint64_t n_found() const { return n_found_; } // since the start
    uint64_t n_decoded() const { return n_decoded_; }

  private:
    std::atomic<uint64_t> n_found_ = 0, n_decoded_ = 0;
    std::mutex lock_;
    byte_budget<prepared_image> kept_;
};

} // namespace lookm::server
