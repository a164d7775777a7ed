#pragma once

#include "server-http.h"

#include "common.h"

#include <string>

namespace lookm::server {

// Takes the place of llama-server's HTTP context (http.cpp). Refuses requests of foreign web pages
// (origins.h), and answers clients' mistakes with status 400 (client_errors.h).
struct http_context : server_http_context {
    // The type of the handlers that server.cpp passes to ex_wrapper(), which answers
    // std::invalid_argument with 400 and any other exception with 500. This type translates
    // exceptions before they get there.
    struct handler_t : server_http_context::handler_t {
        handler_t() = default;
        template <class F>
        handler_t(F inner) : server_http_context::handler_t(translated(std::move(inner))) {}
    };

    bool init(const common_params & params);
    void get(const std::string & path, const server_http_context::handler_t & handler) const;
    void post(const std::string & path, const server_http_context::handler_t & handler) const;
    void del(const std::string & path, const server_http_context::handler_t & handler) const;

  private:
    static server_http_context::handler_t translated(server_http_context::handler_t inner);
};

} // namespace lookm::server
