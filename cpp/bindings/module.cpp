#include "bindings.h"

PYBIND11_MODULE(_core, m) {
    m.attr("__version__") = LOOKM_VERSION;
    m.attr("llama_cpp_version") = LOOKM_LLAMA_VERSION;
    bind_errors();
    bind_options(m);
    bind_method(m);
    bind_chat(m);
    bind_session(m);
    bind_devices(m);
    bind_arrays(m);
    bind_plan(m);
    bind_files(m);
    bind_exit();
}
