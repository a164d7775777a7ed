// ggml-metal's own supports_op, without a Mac: test_metal.py puts the two functions here that
// decide, cut out of ggml-metal-device.m (they are plain C), and compiles them with the tables they
// use.
#include "ggml-impl.h"
#include "ggml-metal-common.h"
#include "ggml-metal-device.h"
#include "ggml-metal-impl.h"

// the real one holds Objective-C objects, too
struct ggml_metal_device {
    struct ggml_metal_device_props props;
};

extern "C" {

#include "supports_op.inc"

// An Apple GPU: M1 has all but bfloat16 in hardware, which M2 and later have.
__attribute__((visibility("default"))) bool lookm_metal_supports(const struct ggml_tensor * op,
                                                                 bool has_bfloat) {
    struct ggml_metal_device device = {};
    device.props.has_simdgroup_reduction = true;
    device.props.has_simdgroup_mm = true;
    device.props.has_unified_memory = true;
    device.props.has_bfloat = has_bfloat;
    device.props.max_theadgroup_memory_size = 32768;
    return ggml_metal_device_supports_op(&device, op);
}
}
