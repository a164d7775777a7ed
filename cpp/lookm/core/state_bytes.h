#pragma once

#include "lookm/core/bad_argument.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <span>
#include <stdexcept>
#include <type_traits>
#include <vector>

namespace lookm {

// Padding bytes are undefined and would make two states of the same conversation differ.
template <class T>
constexpr bool has_no_padding =
    std::is_floating_point_v<T> || std::has_unique_object_representations_v<T>;

// Writes plain values and vectors of them one after another into `out`. A vector is preceded by its
// length as a uint64_t.
class state_writer {
  public:
    template <class T>
    void put(const T & value) {
        static_assert(has_no_padding<T>);
        const auto * bytes = reinterpret_cast<const uint8_t *>(&value);
        std::copy_n(bytes, sizeof(T), std::back_inserter(out)); // gcc 12 warns of insert()
    }
    template <class T>
    void put(const std::vector<T> & values) {
        static_assert(has_no_padding<T>);
        put<uint64_t>(values.size());
        const auto * bytes = reinterpret_cast<const uint8_t *>(values.data());
        out.insert(out.end(), bytes, bytes + values.size() * sizeof(T));
    }
    // Appends n bytes for the caller to fill; the pointer is valid until the next put() or bytes()
    uint8_t * bytes(size_t n) {
        out.resize(out.size() + n);
        return out.data() + out.size() - n;
    }
    std::vector<uint8_t> out;
};

// Reads what state_writer wrote, in the same order. Throws bad_argument "state" if too few bytes
// are left.
class state_reader {
  public:
    explicit state_reader(std::span<const uint8_t> bytes) : left_(bytes) {}

    template <class T>
    T get() {
        T value;
        std::memcpy(&value, take(sizeof(T)), sizeof(T));
        return value;
    }
    template <class T>
    std::vector<T> get_all() {
        const auto n = get<uint64_t>();
        if (n > left_.size() / sizeof(T)) {
            fail();
        }
        std::vector<T> values(n);
        if (n > 0) {
            std::memcpy(values.data(), take(n * sizeof(T)), n * sizeof(T));
        }
        return values;
    }
    const uint8_t * bytes(size_t n) { return take(n); }
    size_t n_left() const { return left_.size(); }
    bool empty() const { return left_.empty(); }

    [[noreturn]] static void fail() {
        throw bad_argument(
            "state", "it is damaged, or was made by another version; expected what state() gave");
    }

  private:
    const uint8_t * take(size_t n) {
        if (n > left_.size()) {
            fail();
        }
        const uint8_t * at = left_.data();
        left_ = left_.subspan(n);
        return at;
    }

    std::span<const uint8_t> left_;
};

} // namespace lookm
