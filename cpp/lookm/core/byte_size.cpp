#include "lookm/core/byte_size.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <limits>
#include <string>

namespace lookm {

namespace {

std::string_view trimmed(std::string_view text) {
    constexpr const char * blank = " \t\r\n";
    const size_t first = text.find_first_not_of(blank);
    return first == text.npos ? std::string_view()
                              : text.substr(first, text.find_last_not_of(blank) - first + 1);
}

// Bytes per unit: 1 without a unit, 0 for an unknown one.
int64_t unit_of(std::string_view word) {
    std::string unit;
    for (const unsigned char c : word) {
        unit += static_cast<char>(std::toupper(c));
    }
    if (unit.empty() || unit == "B") {
        return 1;
    }
    const size_t power = std::string_view("KMGT").find(unit.front());
    const std::string rest = unit.substr(1);
    if (power == std::string_view::npos || (!rest.empty() && rest != "B" && rest != "IB")) {
        return 0;
    }
    int64_t out = 1;
    for (size_t i = 0; i <= power; ++i) {
        out *= rest == "B" ? 1000 : 1024;
    }
    return out;
}

std::optional<int64_t> digits(std::string_view text) {
    int64_t value = 0;
    const char * const end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, value);
    const bool signs = text.starts_with('-');
    return error == std::errc() && stop == end && !signs ? std::optional(value) : std::nullopt;
}

} // namespace

std::optional<int64_t> parse_bytes(std::string_view text) {
    constexpr int64_t most = std::numeric_limits<int64_t>::max();
    text = trimmed(text);
    const size_t n_number = std::min(text.find_first_not_of("0123456789."), text.size());
    const std::string_view number = text.substr(0, n_number);
    const int64_t unit = unit_of(trimmed(text.substr(n_number)));
    const size_t point = std::min(number.find('.'), number.size());
    const auto whole = digits(number.substr(0, point));
    if (unit == 0 || !whole || *whole > most / unit) {
        return std::nullopt;
    }
    int64_t bytes = *whole * unit;
    if (point < number.size()) {
        const std::string_view decimals = number.substr(point + 1);
        const auto fraction = digits(decimals);
        if (!fraction) {
            return std::nullopt;
        }
        const double share =
            static_cast<double>(*fraction) * std::pow(0.1, static_cast<double>(decimals.size()));
        bytes += std::min(most - bytes,
                          static_cast<int64_t>(std::round(share * static_cast<double>(unit))));
    }
    return bytes > 0 ? std::optional(bytes) : std::nullopt;
}

} // namespace lookm
