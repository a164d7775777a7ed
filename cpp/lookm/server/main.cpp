// lookm-server: llama-server with compressed prompts.

#include "lookm/host/devices.h"
#include "lookm/server/flags.h"
#include "lookm/server/model_check.h"
#include "lookm/server/origins.h"
#include "lookm/server/start_memory.h"
#include "lookm/server/templates.h"

#include "arg.h"
#include "common.h"
#include "llama.h"
#include "log.h"
#include "server-stream.h"

#include <clocale>
#include <csignal>
#include <cstdio>
#include <exception>
#include <vector>

int llama_server(common_params & params, int argc,
                 char ** argv); // in server.cpp; no header declares it

int main(int argc, char ** argv) {
    lookm::server::be_the_child(argc, argv);
    std::vector<char *> arguments;
    try {
        arguments = lookm::server::take_flags(argc, argv);
    } catch (const std::exception & error) {
        std::fprintf(stderr, "lookm-server: %s\n", error.what());
        return lookm::server::bad_input;
    }
    argc = static_cast<int>(arguments.size()) - 1;
    argv = arguments.data();

    // what llama-server's own main does first
    std::setlocale(LC_NUMERIC, "C");
#if !defined(_WIN32)
    std::signal(SIGPIPE, SIG_IGN);
#endif
    lookm::limit_rpc_servers();
    common_params params;
    common_init();
    server_stream_session_manager_start();
    if (!common_params_parse(argc, argv, params, LLAMA_EXAMPLE_SERVER,
                             lookm::server::print_flags)) {
        return lookm::server::bad_input;
    }
    if (lookm::server::allowed_origins().active() && !params.cors_origins_explicit) {
        params.cors_origins = lookm::server::allowed_origins().for_browsers();
    }
    try {
        lookm::server::check_model(params, argv[0]);
        lookm::server::use_named_template(params);
        llama_backend_init();
        llama_numa_init(params.numa);
        lookm::server::check_start_memory(params);
    } catch (const std::exception & error) {
        common_log_flush(common_log_main());
        std::fprintf(stderr, "lookm-server: %s\n", lookm::server::with_flag(error).c_str());
        return lookm::server::bad_input;
    }
    const int status = llama_server(params, argc, argv);
    common_log_flush(common_log_main());
    return status;
}
