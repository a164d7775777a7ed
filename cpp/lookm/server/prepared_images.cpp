#include "lookm/server/prepared_images.h"

#include <algorithm>
#include <utility>

namespace lookm::server {

namespace {

// mtmd does not tell the size of a piece's pixels: one cell stands for 14 x 14 to 32 x 32 of them,
// as floats.
constexpr size_t bytes_per_cell = 32 * 32 * 3 * sizeof(float);

} // namespace

size_t prepared_image::bytes() const {
    size_t n = file.size();
    for (const mtmd::input_chunk_ptr & piece : pieces) {
        n += mtmd_input_chunk_get_n_tokens(piece.get()) * bytes_per_cell;
    }
    return n;
}

std::shared_ptr<const prepared_image> prepared_images::find(std::span<const uint8_t> file) {
    const std::lock_guard guard(lock_);
    const auto at = std::find_if(kept_.begin(), kept_.end(), [&](const auto & image) {
        return std::equal(image->file.begin(), image->file.end(), file.begin(), file.end());
    });
    if (at == kept_.end()) {
        return nullptr;
    }
    std::shared_ptr<const prepared_image> found = *at;
    kept_.use(found);
    ++n_found_;
    return found;
}

void prepared_images::keep(std::span<const uint8_t> file, const known_image & known,
                           std::span<const mtmd_input_chunk * const> pieces) {
    ++n_decoded_;
    prepared_image made = {{file.begin(), file.end()}, known, {}};
    for (const mtmd_input_chunk * piece : pieces) {
        made.pieces.emplace_back(mtmd_input_chunk_copy(piece));
    }
    const std::lock_guard guard(lock_);
    kept_.drop_if([&](const prepared_image & other) { return other.file == made.file; });
    kept_.add(std::make_shared<const prepared_image>(std::move(made)));
}

} // namespace lookm::server
