#include "lookm/session/memory_check.h"

#include "lookm/host/memory_room.h"
#include "lookm/model/checked_files.h"
#include "lookm/session/sized_context.h"

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

uint64_t tensors_of(const std::string & path) {
    const std::unique_ptr<gguf_context, decltype(&gguf_free)> gguf(
        gguf_init_from_file(path.c_str(), {/*no_alloc =*/true, nullptr}), gguf_free);
    return gguf ? static_cast<uint64_t>(gguf_get_n_tensors(gguf.get())) : 0;
}

// A guess, before there is a context to ask; hybrid models may take more.
uint64_t least_tables(const std::vector<std::string> & parts) {
    uint64_t n = 0;
    for (const std::string & part : parts) {
        n += tensors_of(part);
    }
    return graph_tables(std::max<uint64_t>(1024, 8 * n));
}

} // namespace

memory_check::memory_check(const std::string & model_path, const std::string & mmproj_path)
    : what_("model_path: \"" + model_path + "\"" +
            (mmproj_path.empty() ? "" : " with its projector")),
      parts_(model_files{model_path, ""}.all()), model_bytes_(bytes_of(parts_)),
      encoder_bytes_(mmproj_path.empty() ? 0 : bytes_of({mmproj_path})),
      encoder_tables_(mmproj_path.empty() ? 0 : graph_tables(encoder_nodes)) {
    check_room(what_);
}

// Weights mapped and repacked, and as much again for a small cache and its buffers
bool memory_check::is_far_more() const {
    memory_room room = address_room();
    room.take_less(data_room());
    room.take_less(unused_memory());
    return room.bytes / 4 > model_bytes_ + encoder_bytes_ + (uint64_t(256) << 20);
}

void memory_check::has_room_for_plan() const {
    check_room(what_, {0, 0, least_tables(parts_) + encoder_tables_});
}

void memory_check::check(llama_context * planned, const besides & others) const {
    const host_bytes bytes = kv_cache::bytes_on_host(planned);
    memory_need need = others.more;
    need.taken +=
        bytes.taken +
        (others.encoder_is_here ? encoder_bytes_ : 0); // its weights are all that is in the file
    if (others.weights_are_mapped) {
        need.mapped += bytes.mapped > 0 ? model_bytes_ : 0;
    } else {
        need.taken += bytes.mapped;
    }
    need.reserved += kv_cache::graph_tables_of(planned) + encoder_tables_;
    check_room(what_, need);
}

void check_memory(const model_options & options) {
    const memory_check memory(options.model_path, options.mmproj_path);
    const model_options usual;
    const bool is_small = options.shrink && options.n_ubatch <= usual.n_ubatch;
    if (!options.rpc_servers.empty() || (is_small && memory.is_far_more())) {
        return;
    }
    memory.has_room_for_plan();
    model_options dry = options;
    dry.no_alloc = true;
    device_list devices;
    const llama_model_ptr model = load_model(dry, devices);
    if (!options.shrink && context_limit(model.get(), dry) > most_context_cells) {
        return; // sized_context refuses it by its cells alone
    }
    const sized_context smallest(model.get(), dry);
    memory_check::besides others;
    others.encoder_is_here = options.cpu_only || options.n_gpu_layers == 0 || !lies_on_devices("");
    memory.check(smallest.get(), others);
}

} // namespace lookm
