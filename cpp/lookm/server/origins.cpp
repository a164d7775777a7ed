#include "lookm/server/origins.h"

#include <algorithm>
#include <cctype>
#include <sstream>
#include <stdexcept>

namespace lookm::server {

namespace {

std::string lower(std::string text) {
    std::transform(text.begin(), text.end(), text.begin(),
                   [](unsigned char c) { return std::tolower(c); });
    return text;
}

// The value of a header, in lower case; "" if it is missing. Names of headers ignore case.
std::string header(const std::map<std::string, std::string> & headers, const std::string & name) {
    for (const auto & [key, value] : headers) {
        if (lower(key) == name) {
            return lower(value);
        }
    }
    return "";
}

// host[:port] of an origin; "" if it is not an origin.
std::string authority(const std::string & origin) {
    for (const std::string scheme : {"http://", "https://"}) {
        if (origin.rfind(scheme, 0) == 0) {
            return origin.substr(scheme.size());
        }
    }
    return "";
}

// A host without its port.
std::string name_of(const std::string & host) {
    return host.rfind('[', 0) == 0 ? host.substr(0, host.find(']') + 1)
                                   : host.substr(0, host.find(':'));
}

// Whether it is an IPv4 or IPv6 address, and not a name that can be made to resolve to this
// machine.
bool is_address(const std::string & name) {
    return name.rfind('[', 0) == 0 || (std::count(name.begin(), name.end(), '.') == 3 &&
                                       name.find_first_not_of("0123456789.") == name.npos);
}

} // namespace

void origins::allow(const std::string & list) {
    allowed.clear();
    std::istringstream words(lower(list));
    for (std::string word; std::getline(words, word, ',');) {
        const std::string host = authority(word);
        if (word != "self" && (host.empty() || host.find_first_of("/ @*\"") != host.npos)) {
            throw std::invalid_argument("\"" + word +
                                        "\" is not an origin; expected self, or origins such as " +
                                        "https://chat.example.org, separated by commas");
        }
        if (word != "self") {
            allowed.push_back(word);
        }
    }
    if (list.empty()) {
        throw std::invalid_argument(
            "it is empty; expected self, or origins such as https://chat.example.org");
    }
    is_active = true;
}

std::string origins::for_browsers() const {
    return allowed.empty() ? "localhost" : allowed.size() == 1 ? allowed.front() : "*";
}

bool origins::host_is_ours(const std::string & host) const {
    const std::string name = name_of(host);
    const std::string local = ".localhost";
    return name.empty() || name == "localhost" || is_address(name) ||
           (name.size() > local.size() &&
            name.compare(name.size() - local.size(), name.npos, local) == 0) ||
           std::any_of(allowed.begin(), allowed.end(), [&](const std::string & origin) {
               return name_of(authority(origin)) == name;
           });
}

std::string origins::refusal(const std::map<std::string, std::string> & headers) const {
    if (!is_active) {
        return "";
    }
    const std::string host = header(headers, "host");
    if (!host_is_ours(host)) {
        return "Host: \"" + host +
               "\" is not served; expected localhost, an address, or a name in --allow-origin";
    }
    const std::string origin = header(headers, "origin");
    if (origin.empty() || authority(origin) == host ||
        std::find(allowed.begin(), allowed.end(), origin) != allowed.end()) {
        return "";
    }
    return "Origin: \"" + origin +
           "\" is not served; expected this server's own page, or one in --allow-origin";
}

origins & allowed_origins() {
    static origins one;
    return one;
}

} // namespace lookm::server
