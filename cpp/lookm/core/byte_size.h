#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace lookm {

// Bytes as users write them: "4096", "512MiB", "1.5 GiB", "16GB", "2g". A unit is K, M, G or T,
// where capitals do not matter: alone or with iB for powers of 1024, with B for powers of 1000.
// Nothing for other text, and for less than one byte or more than an int64_t holds.
std::optional<int64_t> parse_bytes(std::string_view text);

} // namespace lookm
