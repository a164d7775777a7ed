#include "lookm/server/client_errors.h"

#include "server-common.h"

#include <new>
#include <stdexcept>
#include <system_error>
#include <utility>

namespace lookm::server {

namespace {

constexpr const char * about_json = "[json.exception.";

// Rewords a message such as "[json.exception.type_error.302] type must be string, but is array".
std::string plain(const std::string & message) {
    const size_t at = message.find(about_json);
    const size_t end = at == message.npos ? at : message.find("] ", at);
    if (end == message.npos) {
        return message;
    }
    const std::string what = message.substr(end + 2);
    if (at > 0) { // the text before names the field
        return message.substr(0, at) + what;
    }
    static const std::string no_object = "cannot use at() with ";
    static const std::string no_key = "key ";
    if (what.starts_with("parse error")) {
        return "request body: it is not JSON: " + what;
    }
    if (what.starts_with(no_object)) {
        return "request body: it is, or holds, " + what.substr(no_object.size()) +
               "; expected an object";
    }
    if (what.starts_with(no_key) && what.ends_with(" not found")) {
        return "request body: field " + what.substr(no_key.size());
    }
    return "request body: a field's " + what;
}

bool is_text(const json & body, const char * field) {
    return body.is_object() && body.contains(field) && body.at(field).is_string();
}

} // namespace

server_http_context::handler_t with_client_errors(server_http_context::handler_t inner,
                                                  bool is_router) {
    return [inner = std::move(inner), is_router](const server_http_req & req) {
        try {
            return inner(req);
        } catch (const std::bad_alloc &) { // this one and the next are failures of the server
            throw;
        } catch (const std::system_error &) {
            throw;
        } catch (const common_json_error & error) {
            throw std::invalid_argument(plain(error.what()));
        } catch (const std::out_of_range & error) {
            throw std::invalid_argument(std::string("request body: a number is out of range: ") +
                                        error.what());
        } catch (const std::exception & error) {
            if (is_router) {
                throw;
            }
            throw std::invalid_argument(plain(error.what()));
        }
    };
}

void reword(server_http_res & response, const std::string & path, const std::string & body) {
    if (response.is_stream() || response.status < 400 ||
        response.data.find(about_json) == std::string::npos) {
        return;
    }
    json data = json::parse_no_throw(response.data);
    if (data.is_discarded() || !data.contains("error") || !is_text(data.at("error"), "message")) {
        return;
    }
    json & error = data.at("error");
    error["message"] = plain(error.at("message"));
    if (path.ends_with("/v1/completions")) {
        const json request = json::parse_no_throw(body);
        if (request.is_object() && request.contains("prompt") && !is_text(request, "prompt")) {
            error["message"] = "prompt: it is not a string; expected one because the model has a "
                               "projector (/completion also takes lists)";
        }
    }
    response.data = safe_json_to_str(data);
}

} // namespace lookm::server
