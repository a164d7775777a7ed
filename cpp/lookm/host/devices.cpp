#include "lookm/host/devices.h"

#include "lookm/core/bad_argument.h"
#include "lookm/host/at_work.h"

#include "ggml-rpc.h"
#if defined(LOOKM_RPC_LIMIT)
#include "rpc_recv.h"
#endif
#include "llama.h"

#include <cstdlib>
#include <mutex>
#include <stdexcept>

namespace lookm {

namespace {

// A slow server may take this long for a long batch of a large model
[[maybe_unused]] constexpr int rpc_seconds = 600;

// Looked up in the backend's table, so that a build without GGML_RPC links as well.
decltype(&ggml_backend_rpc_add_server) rpc_add_server() {
    ggml_backend_reg_t rpc = ggml_backend_reg_by_name("RPC");
    if (!rpc) {
        throw bad_argument("rpc_servers",
                           "this build has no RPC; expected a build with -DGGML_RPC=ON");
    }
    return reinterpret_cast<decltype(&ggml_backend_rpc_add_server)>(
        ggml_backend_reg_get_proc_address(rpc, "ggml_backend_rpc_add_server"));
}

// The discrete GPUs, or the integrated ones if there are no others.
std::vector<ggml_backend_dev_t> local_accelerators() {
    std::vector<ggml_backend_dev_t> discrete, integrated;
    for (size_t i = 0; i < ggml_backend_dev_count(); ++i) {
        ggml_backend_dev_t device = ggml_backend_dev_get(i);
        if (ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_GPU) {
            discrete.push_back(device);
        } else if (ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_IGPU) {
            integrated.push_back(device);
        }
    }
    return discrete.empty() ? integrated : discrete;
}

} // namespace

void limit_rpc_servers() {
#if defined(LOOKM_RPC_LIMIT)
    const char * given = std::getenv("LOOKM_RPC_SECONDS");
    lookm_rpc_wait_at_most(given ? std::atoi(given) : rpc_seconds);
#endif
}

void start_backends() {
    static std::once_flag once;
    static int started_in = 0;
    std::call_once(once, [] {
        limit_rpc_servers();
        llama_backend_init();
        started_in = fork_generation();
    });
    if (started_in != fork_generation() && !local_accelerators().empty()) {
        throw std::runtime_error(
            "this process was forked, and its parent uses the accelerators of this machine" +
            std::string(instead_of_fork));
    }
}

bool lies_on_devices(const std::string & rpc_servers) {
    return !rpc_servers.empty() || !local_accelerators().empty();
}

device_list::device_list(const std::string & rpc_servers) {
    if (rpc_servers.empty()) {
        return;
    }
    const auto add_server = rpc_add_server();
    leases_ = lease_rpc_servers(rpc_servers);
    for (const rpc_lease & lease : leases_) {
        ggml_backend_reg_t server = add_server(lease->c_str());
        if (!server) {
            throw bad_argument("rpc_servers", "\"" + *lease + "\" has no device");
        }
        for (size_t i = 0; i < ggml_backend_reg_dev_count(server); ++i) {
            devices_.push_back(ggml_backend_reg_dev_get(server, i));
        }
    }
    const std::vector<ggml_backend_dev_t> local = local_accelerators();
    devices_.insert(devices_.end(), local.begin(), local.end());
    if (devices_.size() > llama_max_devices()) {
        throw bad_argument("rpc_servers",
                           "\"" + rpc_servers + "\" gives " + std::to_string(devices_.size()) +
                               " devices; expected at most " + std::to_string(llama_max_devices()));
    }
    devices_.push_back(nullptr);
}

device_list device_list::none() {
    device_list list;
    list.devices_.push_back(nullptr);
    return list;
}

std::vector<ggml_backend_dev_t> device_list::accelerators() const {
    return devices_.empty() ? local_accelerators()
                            : std::vector<ggml_backend_dev_t>(devices_.begin(), devices_.end() - 1);
}

} // namespace lookm
