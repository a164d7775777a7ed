#pragma once

#include "lookm/host/rpc_endpoint.h"

#include "ggml-backend.h"

#include <string>
#include <vector>

namespace lookm {

// From now on, an RPC server that sends nothing for ten minutes, or for the seconds that the
// environment variable LOOKM_RPC_SECONDS sets, counts as lost, and ggml ends the process.
void limit_rpc_servers();

// Starts ggml's backends with that limit; only the first call does anything. Throws
// std::runtime_error in a forked child whose parent started them on a machine with accelerators, as
// their drivers do not survive a fork.
void start_backends();

// Whether any part of a model may be outside this process's memory. If there is an accelerator,
// llama.cpp uses it for some work regardless of n_gpu_layers.
bool lies_on_devices(const std::string & rpc_servers);

// The devices that the layers of one model may be put on. Must outlive the model.
class device_list {
  public:
    // llama.cpp's own choice, which is every accelerator of this machine.
    device_list() = default;

    // rpc_servers "host:port,...": the devices of these servers in the order given, then this
    // machine's accelerators. That is what llama.cpp's --rpc does, but here it is for this model
    // only. "": llama.cpp's own choice. Throws bad_argument "rpc_servers".
    explicit device_list(const std::string & rpc_servers);

    static device_list none(); // only the CPU

    // For llama_model_params::devices: an array that ends with nullptr, or nullptr for llama.cpp's
    // own choice.
    ggml_backend_dev_t * data() { return devices_.empty() ? nullptr : devices_.data(); }
    // The devices that layers are split over; empty if there is only the CPU.
    std::vector<ggml_backend_dev_t> accelerators() const;

  private:
    std::vector<rpc_lease> leases_;
    std::vector<ggml_backend_dev_t> devices_;
};

} // namespace lookm
