#include "lookm/server/flag_values.h"

#include "lookm/core/byte_size.h"

#include "arg.h"

#include <cmath>
#include <stdexcept>

namespace lookm::server {

void parse(double & value, const std::string & text) {
    size_t end = 0;
    try {
        value = std::stod(text, &end);
    } catch (const std::exception &) {
        end = 0;
    }
    if (end == 0 || end != text.size()) {
        throw std::invalid_argument("\"" + text + "\" is not a number");
    }
}

void parse(int32_t & value, const std::string & text) {
    double number = 0.0;
    parse(number, text);
    if (!(std::abs(number) < 1e9) || number != std::floor(number)) {
        throw std::invalid_argument("\"" + text + "\" is not a whole number");
    }
    value = static_cast<int32_t>(number);
}

void parse(uint32_t & value, const std::string & text) {
    int32_t whole = 0;
    parse(whole, text);
    if (whole < 0) {
        throw std::invalid_argument("\"" + text + "\", expected 0 or more");
    }
    value = static_cast<uint32_t>(whole);
}

void parse(bool & value, const std::string & text) {
    value = common_arg_utils::is_truthy(text);
    if (!value && !common_arg_utils::is_falsey(text)) {
        throw std::invalid_argument("\"" + text + "\" is neither true nor false");
    }
}

void parse(std::string & value, const std::string & text) {
    value = text;
}

void parse(std::variant<double, std::string> & value, const std::string & text) {
    if (text == "auto") {
        value = text;
        return;
    }
    double number = 0.0;
    try {
        parse(number, text);
    } catch (const std::invalid_argument &) {
        throw std::invalid_argument("\"" + text + "\" is neither a number nor auto");
    }
    value = number;
}

int64_t parsed_bytes(const std::string & text) {
    const auto found = parse_bytes(text);
    if (!found) {
        throw std::invalid_argument("\"" + text +
                                    "\", expected bytes such as 512MiB, 8GiB or 16GB");
    }
    return *found;
}

} // namespace lookm::server
