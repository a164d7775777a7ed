#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace lookm {

// Reads a size as users write it: "4096", "512MiB", "1.5 GiB", "16GB", "2g". The units K, M, G and
// T are powers of 1024, alone or followed by iB, and powers of 1000 when followed by B; upper and
// lower case are equal. Returns bytes, or nullopt for any other text, for less than one byte, and
// for more than an int64_t can hold.
std::optional<int64_t> parse_bytes(std::string_view text);

} // namespace lookm
