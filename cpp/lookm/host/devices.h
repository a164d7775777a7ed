#pragma once

#include "lookm/host/rpc_endpoint.h"

#include "ggml-backend.h"

#include <string>
#include <vector>

namespace lookm {

// From now on an RPC server that says nothing for ten minutes, or LOOKM_RPC_SECONDS, is taken for
// gone: ggml ends the process.
void limit_rpc_servers();

// ggml's backends, once for all, with that limit. Throws std::runtime_error in a forked child whose
// parent has devices: their drivers do not go on there.
void start_backends();

// Whether anything of a model may lie elsewhere than in this process's memory. Where there is an
// accelerator llama.cpp makes use of it, whatever n_gpu_layers is.
bool lies_on_devices(const std::string & rpc_servers);

// The devices that one model's layers may lie on. Must outlive the model.
class device_list {
  public:
    // llama.cpp's own choice: every accelerator of this machine.
    device_list() = default;

    // rpc_servers "host:port,...": the devices of these servers in their order, then this machine's
    // accelerators, as llama.cpp's --rpc has it, but for this model alone; "": llama.cpp's own
    // choice. Throws std::invalid_argument.
    explicit device_list(const std::string & rpc_servers);

    static device_list none(); // the CPU alone

    // As llama_model_params wants them: ended by nullptr; nullptr itself stands for llama.cpp's own
    // choice.
    ggml_backend_dev_t * data() { return devices_.empty() ? nullptr : devices_.data(); }
    // The devices that layers are split over, none when only the CPU is there.
    std::vector<ggml_backend_dev_t> accelerators() const;

  private:
    std::vector<rpc_lease> leases_;
    std::vector<ggml_backend_dev_t> devices_;
};

} // namespace lookm
