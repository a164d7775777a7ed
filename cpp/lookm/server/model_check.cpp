#include "lookm/server/model_check.h"

#include "lookm/files/file_check.h"
#include "lookm/files/file_trial.h"
#include "lookm/host/out_of_memory.h"
#include "lookm/server/settings.h"

#include <cstdlib>
#include <cstring>
#include <stdexcept>

namespace lookm::server {

namespace {

constexpr const char * try_flag = "--lookm-try-files"; // followed by model, projector and a pipe

} // namespace

void be_the_child(int argc, char ** argv) {
    if (argc == 5 && std::strcmp(argv[1], try_flag) == 0) {
        try_files(argv[2], argv[3], std::atoi(argv[4]));
    }
}

void check_model(const common_params & params, const char * program) {
    if (!server_settings().checks.files || params.model.path.empty()) {
        return;
    }
#if defined(__linux__)
    program = "/proc/self/exe";
#endif
    check_files({params.model.path, params.mmproj.path},
                {{program, try_flag}, "--no-check-files", {}});
}

} // namespace lookm::server
