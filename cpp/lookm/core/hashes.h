#pragma once

#include <cstdint>
#include <string_view>

namespace lookm {

// FNV-1a. It does not resist attacks.
class fnv {
  public:
    void add(std::string_view bytes) {
        for (const char c : bytes) {
            hash_ = (hash_ ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
        }
    }
    void add(int64_t number) { add({reinterpret_cast<const char *>(&number), sizeof(number)}); }
    uint64_t get() const { return hash_; }

  private:
    uint64_t hash_ = 0xcbf29ce484222325ULL;
};

// splitmix64's finalizer
inline uint64_t mixed(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

} // namespace lookm
