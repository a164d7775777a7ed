#include "lookm/llama/memory_check.h"

#include "lookm/llama/checked_files.h"
#include "lookm/llama/memory_room.h"
#include "lookm/llama/sized_context.h"

#include "gguf.h"

#include <algorithm>
#include <filesystem>
#include <memory>

namespace lookm {

namespace {

uint64_t bytes_of(const std::vector<std::string> & paths) {
    uint64_t bytes = 0;
    for (const std::string & path : paths) {
        std::error_code error;
        const auto size = std::filesystem::file_size(path, error);
        bytes += error ? 0 : size;
    }
    return bytes;
}

// Mapped, repacked, and as much again for a small cache and its buffers
bool is_far_more(uint64_t room, uint64_t files, const model_options & options) {
    const model_options usual;
    return options.shrink && options.n_ubatch <= usual.n_ubatch && room / 4 > files + (uint64_t(256) << 20);
}

uint64_t tensors_of(const std::string & path) {
    const std::unique_ptr<gguf_context, decltype(&gguf_free)> gguf(
        gguf_init_from_file(path.c_str(), {/*no_alloc =*/true, nullptr}), gguf_free);
    return gguf ? static_cast<uint64_t>(gguf_get_n_tensors(gguf.get())) : 0;
}

// Before there is a context that says it; hybrids may take more.
uint64_t least_tables(const std::vector<std::string> & parts) {
    uint64_t n = 0;
    for (const std::string & part : parts) {
        n += tensors_of(part);
    }
    return graph_tables(std::max<uint64_t>(1024, 8 * n));
}

} // namespace

void check_memory(const model_options & options) {
    const std::string what =
        "model_path: \"" + options.model_path + "\"" + (options.mmproj_path.empty() ? "" : " with its projector");
    check_room(what);
    memory_room room = address_room();
    room.take_less(data_room());
    room.take_less(unused_memory());
    const std::vector<std::string> parts = model_files{options.model_path, ""}.all();
    const uint64_t model_bytes = bytes_of(parts);
    const uint64_t files = model_bytes + bytes_of({options.mmproj_path});
    if (!options.rpc_servers.empty() || is_far_more(room.bytes, files, options)) {
        return;
    }
    const uint64_t encoder_tables = options.mmproj_path.empty() ? 0 : graph_tables(encoder_nodes);
    check_room(what, {0, 0, least_tables(parts) + encoder_tables}); // as much as the plan itself takes
    model_options dry = options;
    dry.no_alloc = true;
    device_list devices;
    const llama_model_ptr model = load_model(dry, devices);
    const sized_context smallest(model.get(), dry);
    const host_bytes bytes = kv_cache::bytes_on_host(smallest.get());
    const bool encoder_is_here = options.cpu_only || options.n_gpu_layers == 0 || !lies_on_devices("");
    const uint64_t encoder = encoder_is_here ? bytes_of({options.mmproj_path}) : 0; // its weights are all that is in it
    check_room(what, {bytes.taken + encoder, bytes.mapped > 0 ? model_bytes : 0,
                      kv_cache::graph_tables_of(smallest.get()) + encoder_tables});
}

} // namespace lookm
