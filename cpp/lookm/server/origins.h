#pragma once

// Which requests of browsers are served (--allow-origin). Any web page that a user opens may send
// requests to a server on their machine: what CORS withholds is the answer, and a POST of
// text/plain is sent without asking. A browser names the page in the header Origin; and in Host the
// server as the page called it, which is a name of the page's own where that name resolves to this
// machine (DNS rebinding).

#include <map>
#include <string>
#include <vector>

namespace lookm::server {

class origins {
  public:
    // What --allow-origin says: `self`, or origins with commas between them. Throws
    // std::invalid_argument.
    void allow(const std::string & list);

    // Whether requests are looked at.
    bool active() const { return is_active; }

    // What llama-server is to tell browsers (--cors-origins): one origin, `localhost` for none, `*`
    // to name each request's own, as no header can hold several.
    std::string for_browsers() const;

    // Why a request with such headers is refused; empty where it is served.
    std::string refusal(const std::map<std::string, std::string> & headers) const;

  private:
    bool host_is_ours(const std::string & host) const;

    bool is_active = false;
    std::vector<std::string> allowed; // scheme://host[:port], in small letters
};

// The process's own, as server_settings() of settings.
origins & allowed_origins();

} // namespace lookm::server
