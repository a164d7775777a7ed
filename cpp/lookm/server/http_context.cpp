#include "lookm/server/http_context.h"

#include "lookm/server/client_errors.h"
#include "lookm/server/origins.h"
#include "lookm/server/pruned_pieces.h"
#include "lookm/server/request_limits.h"
#include "lookm/server/settings.h"

#include "server-common.h"

#include <algorithm>
#include <cctype>
#include <memory>
#include <optional>
#include <stdexcept>
#include <utility>

namespace lookm::server {

namespace {

bool is_router = false; // set before the first request

server_http_res_ptr refused(int status, error_type type, const std::string & why) {
    auto response = std::make_unique<server_http_res>();
    response->status = status;
    response->data = safe_json_to_str({{"error", format_error_response(why, type)}});
    return response;
}

// A router passes the request on to one of its servers, at another port. To that server, the page
// would be foreign.
server_http_req without_origin(const server_http_req & req) {
    server_http_req copy = req;
    for (auto at = copy.headers.begin(); at != copy.headers.end();) {
        std::string name = at->first;
        std::transform(name.begin(), name.end(), name.begin(),
                       [](unsigned char c) { return std::tolower(c); });
        at = name == "origin" ? copy.headers.erase(at) : std::next(at);
    }
    return copy;
}

server_http_context::handler_t guarded(const server_http_context::handler_t & inner) {
    return [inner](const server_http_req & req) {
        if (const std::string why = allowed_origins().refusal(req.headers); !why.empty()) {
            return refused(403, ERROR_TYPE_PERMISSION, why);
        }
        if (const std::string why = over_limits(req.body, !server_settings().no_request_grammar);
            !why.empty()) {
            return refused(400, ERROR_TYPE_INVALID_REQUEST, why);
        }
        const bool hands_on = is_router && allowed_origins().active();
        const auto images = std::make_shared<request_images>();
        try {
            images->how = is_router ? std::nullopt : pruning_asked(req.body);
        } catch (const std::invalid_argument & why) {
            return refused(400, ERROR_TYPE_INVALID_REQUEST, why.what());
        }
        current_images() = images;
        server_http_res_ptr response = hands_on ? inner(without_origin(req)) : inner(req);
        current_images().reset();
        if (response && response->is_stream() && !images->pieces.empty()) {
            response->next = [images, next = std::move(response->next)](std::string & out) {
                return next(out);
            };
        }
        if (response) {
            reword(*response, req.path, req.body);
        }
        return response;
    };
}

} // namespace

bool http_context::init(const common_params & params) {
    is_router = params.model.path.empty() && params.model.hf_repo.empty() &&
                params.model.docker_repo.empty();
    return server_http_context::init(params);
}

void http_context::get(const std::string & path,
                       const server_http_context::handler_t & handler) const {
    server_http_context::get(path, guarded(handler));
}

void http_context::post(const std::string & path,
                        const server_http_context::handler_t & handler) const {
    server_http_context::post(path, guarded(handler));
}

void http_context::del(const std::string & path,
                       const server_http_context::handler_t & handler) const {
    server_http_context::del(path, guarded(handler));
}

server_http_context::handler_t http_context::translated(server_http_context::handler_t inner) {
    return with_client_errors(std::move(inner), is_router);
}

} // namespace lookm::server
