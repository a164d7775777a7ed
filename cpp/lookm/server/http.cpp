// llama-server's server.cpp as it is, with routes of ours (routes.h) in place of its own.

#include "server-context.h"

#include "lookm/server/routes.h"

#include "ui.h"

#if defined(LOOKM_WEB_UI_WANTED) && !defined(LLAMA_UI_HAS_ASSETS)
#error "LOOKM_WEB_UI=ON, but npm did not build the page: its messages are above. AUTO or OFF builds without it"
#endif

#define server_routes lookm::server::routes

#include "server.cpp"
