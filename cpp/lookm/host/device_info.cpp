#include "lookm/host/device_info.h"

#include "lookm/graph/cpu_products.h"
#include "lookm/graph/probe.h"
#include "lookm/host/devices.h"
#include "lookm/host/log.h"

#include "llama.h"

namespace lookm {

namespace {

bool is_rpc(ggml_backend_dev_t device) {
    return std::string(ggml_backend_reg_name(ggml_backend_dev_backend_reg(device))) == "RPC";
}

const char * type_of(ggml_backend_dev_t device) {
    switch (ggml_backend_dev_type(device)) {
        case GGML_BACKEND_DEVICE_TYPE_CPU:
            return "CPU";
        case GGML_BACKEND_DEVICE_TYPE_IGPU:
            return "IGPU";
        default:
            return is_rpc(device) ? "RPC" : "GPU";
    }
}

// The first op that the device does not support, or "".
std::string refusal(ggml_backend_dev_t device, ggml_type type_k, ggml_type type_v) {
    const auto gate = [device](const ggml_tensor * node) { return backend_supports(device, node); };
    for (const bool flash_attn : {true, false}) {
        if (!flash_attn && ggml_is_quantized(type_v)) {
            continue; // llama.cpp has no such cache
        }
        try {
            probe_device_graphs({type_k, type_v, 128, flash_attn}, gate);
        } catch (const refused_op & refused) {
            return refused.op;
        }
    }
    return "";
}

device_info describe(ggml_backend_dev_t device, ggml_type type_k, ggml_type type_v) {
    device_info info;
    info.name = ggml_backend_dev_name(device);
    info.description = ggml_backend_dev_description(device);
    info.type = type_of(device);
    ggml_backend_dev_memory(device, &info.memory_free, &info.memory_total);
    const std::string refused = refusal(device, type_k, type_v);
    info.on_device = refused.empty();
    if (info.type == "CPU") {
        info.note = "with CPU loops instead of graphs";
        if (const std::string cpu = lookm_products().compiled_for; !cpu.empty()) {
            info.note += ", compiled for " + cpu;
        }
    } else if (!info.on_device) {
        info.note = "it does not support " + refused;
    } else if (info.type == "RPC") {
        info.note = "not checked, as RPC servers do not say what they support";
    }
    return info;
}

} // namespace

std::vector<device_info> list_devices(const std::string & rpc_servers, ggml_type type_k,
                                      ggml_type type_v) {
    set_verbose(false);
    start_backends();
    std::vector<ggml_backend_dev_t> devices = {
        ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU)};
    const device_list list(rpc_servers); // the connections stay open until all are described
    for (ggml_backend_dev_t device : list.accelerators()) {
        devices.push_back(device);
    }
    std::vector<device_info> infos;
    for (ggml_backend_dev_t device : devices) {
        infos.push_back(describe(device, type_k, type_v));
    }
    return infos;
}

} // namespace lookm
