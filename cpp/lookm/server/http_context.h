#pragma once

#include "server-http.h"

#include "common.h"

#include <string>

namespace lookm::server {

// What server.cpp makes in place of llama-server's own (http.cpp): requests of foreign pages are
// refused (origins.h), and clients' mistakes answered as such (client_errors.h).
struct http_context : server_http_context {
    // The type that ex_wrapper(), in server.cpp, takes a handler by. It answers
    // std::invalid_argument with 400 and everything else with 500, so what is thrown has to be the
    // right thing before it gets there.
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
