#include "bindings.h"
#include "fields.h"

#include "lookm/core/byte_size.h"
#include "lookm/core/compression.h"
#include "lookm/model/model_options.h"
#include "lookm/session/sampling.h"

void bind_options(pybind11::module_ & m) {
    m.def("parse_bytes", &lookm::parse_bytes, pybind11::arg("text"));
    bind_fields<lookm::compression>(m, "Compression");
    bind_fields<lookm::model_options>(m, "ModelOptions");
    bind_fields<lookm::sampling_options>(m, "Sampling");
}
