#include "bindings.h"
#include "gil.h"

#include "lookm/host/device_info.h"
#include "lookm/model/model.h"

#include <string>
#include <vector>

namespace py = pybind11;
using namespace py::literals;

namespace {

py::list devices(const std::string & rpc_servers, const std::string & type_k,
                 const std::string & type_v) {
    std::vector<lookm::device_info> infos;
    {
        const without_gil nogil;
        infos = lookm::list_devices(rpc_servers, lookm::parse_cache_type("type_k", type_k),
                                    lookm::parse_cache_type("type_v", type_v));
    }
    py::list out;
    for (const lookm::device_info & d : infos) {
        out.append(py::dict("name"_a = d.name, "description"_a = d.description, "type"_a = d.type,
                            "memory_free"_a = d.memory_free, "memory_total"_a = d.memory_total,
                            "on_device"_a = d.on_device, "note"_a = d.note));
    }
    return out;
}

} // namespace

void bind_devices(py::module_ & m) {
    m.def("devices", &devices, "rpc_servers"_a = "", "type_k"_a = "f16", "type_v"_a = "f16");
}
