// llama-server's server.cpp, unchanged, but with our routes (routes.h), our checks of each request
// (http_context.h), and signal handlers that cannot deadlock (signals.h).

#include "server-context.h"
#include "server-http.h"
#include "server-models.h"
#include "server-stream.h"
#include "server-tools.h"

#include "lookm/server/http_context.h"
#include "lookm/server/routes.h"
#include "lookm/server/signals.h"

#include "ui.h"

#include <csignal> // before its sigaction() is replaced below

#if defined(LOOKM_WEB_UI_WANTED) && !defined(LLAMA_UI_HAS_ASSETS)
#error                                                                                             \
    "LOOKM_WEB_UI=ON, but npm did not build the page: its messages are above. AUTO or OFF builds without it"
#endif

#define server_routes lookm::server::routes
#define server_http_context lookm::server::http_context
#if !defined(_WIN32)
#define sigaction(number, action, old) lookm::server::handle_aside(number, (action)->sa_handler)
#endif

#include "server.cpp"
