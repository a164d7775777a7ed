// llama-server's server.cpp as it is, with routes of ours (routes.h) in place of its own.

#include "server-context.h"

#include "lookm/server/routes.h"

#define server_routes lookm::server::routes

#include "server.cpp"
