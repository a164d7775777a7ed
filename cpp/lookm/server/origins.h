#pragma once

// Which requests from browsers are served (--allow-origin). Any web page that a user opens can send
// requests to a server on the user's machine: CORS only hides the answer from the page, and a POST
// of text/plain is sent without asking. The header Origin names the page. The header Host has the
// name by which the page called the server; with DNS rebinding, that is a name of the page's own
// which resolves to this machine.

#include <map>
#include <string>
#include <vector>

namespace lookm::server {

class origins {
  public:
    // list: `self`, or origins separated by commas. Throws std::invalid_argument.
    void allow(const std::string & list);

    // Whether requests are checked.
    bool active() const { return is_active; }

    // The value for llama-server's --cors-origins: the only origin, `localhost` if there is none,
    // and `*` for several, because a header can hold one only.
    std::string for_browsers() const;

    // Why a request with these headers is refused; "" if it is served.
    std::string refusal(const std::map<std::string, std::string> & headers) const;

  private:
    bool host_is_ours(const std::string & host) const;

    bool is_active = false;
    std::vector<std::string> allowed; // scheme://host[:port], in lower case
};

// The one of this process.
origins & allowed_origins();

} // namespace lookm::server
