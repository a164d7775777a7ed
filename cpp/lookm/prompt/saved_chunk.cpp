#include "lookm/prompt/saved_chunk.h"

#include "lookm/prompt/image_chunks.h"

#include <cstring>

namespace lookm {

namespace {

constexpr uint64_t known_version = 2;
constexpr uint32_t normal = 0, mrope = 1;

class reader {
  public:
    explicit reader(const std::vector<char> & bytes) : bytes_(bytes) {}

    size_t at() const { return at_; }
    bool is_over() const { return at_ > bytes_.size(); }
    void skip(uint64_t n) {
        at_ = n > bytes_.size() ? bytes_.size() + 1 : at_ + static_cast<size_t>(n);
    }
    template <class T>
    T take() {
        T value = {};
        if (at_ + sizeof(T) <= bytes_.size()) {
            std::memcpy(&value, bytes_.data() + at_, sizeof(T));
        }
        skip(sizeof(T));
        return value;
    }

  private:
    const std::vector<char> & bytes_;
    size_t at_ = 0;
};

template <class T>
void append(std::vector<char> & out, const T & value) {
    const auto * const bytes = reinterpret_cast<const char *>(&value);
    out.insert(out.end(), bytes, bytes + sizeof(T));
}

} // namespace

saved_chunk::saved_chunk(const mtmd_input_chunk * chunk) : bytes_(saved_bytes(chunk)) {
    reader r(bytes_);
    if (r.take<uint64_t>() != known_version || r.take<uint32_t>() != MTMD_INPUT_CHUNK_TYPE_IMAGE) {
        return;
    }
    r.skip(r.take<uint64_t>() * sizeof(int32_t));
    if (r.take<uint8_t>() != 1) {
        return;
    }
    grid_at_ = r.at();
    columns_ = r.take<uint32_t>();
    rows_ = r.take<uint32_t>();
    const auto positions = r.take<uint32_t>();
    r.skip(2 * sizeof(uint32_t));
    id_at_ = r.at();
    r.skip(r.take<uint64_t>());
    r.skip(1);
    const auto n_images = r.take<uint64_t>();
    r.skip(2 + sizeof(int32_t));
    const auto width = r.take<int32_t>(), height = r.take<int32_t>();
    if (r.is_over() || n_images < 1) {
        return;
    }
    if (width > 0 && height > 0) {
        width_ = width;
        height_ = height;
    }
    if (n_images == 1 && uint64_t(columns_) * rows_ == mtmd_input_chunk_get_n_tokens(chunk)) {
        positions_ = positions == normal  ? cell_positions::in_a_row
                     : positions == mrope ? cell_positions::in_a_grid
                                          : cell_positions::unknown;
    }
}

mtmd::input_chunk_ptr saved_chunk::changed(uint32_t columns, uint32_t rows,
                                           const std::string & id) const {
    reader r(bytes_);
    r.skip(id_at_);
    const auto n_id = r.take<uint64_t>();
    std::vector<char> out(bytes_.begin(), bytes_.begin() + static_cast<int64_t>(id_at_));
    std::memcpy(out.data() + grid_at_, &columns, sizeof(columns));
    std::memcpy(out.data() + grid_at_ + sizeof(columns), &rows, sizeof(rows));
    append(out, static_cast<uint64_t>(id.size()));
    out.insert(out.end(), id.begin(), id.end());
    out.insert(out.end(), bytes_.begin() + static_cast<int64_t>(r.at() + n_id), bytes_.end());
    return mtmd::input_chunk_ptr(mtmd_input_chunk_load(out.data(), out.size()));
}

} // namespace lookm
