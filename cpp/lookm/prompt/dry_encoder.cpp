#include "lookm/prompt/dry_encoder.h"

#include "lookm/host/log.h"
#include "lookm/host/memory_room.h"
#include "lookm/host/out_of_memory.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <stdexcept>

namespace lookm {

// The scheduler asks about each node of a graph. The first node for which the compute buffers are
// known is computed, and its callback then stops the graph.
struct dry_encoder::sight {
    std::map<ggml_backend_buffer_t, size_t> buffers; // of this graph, one on each device
    size_t pixels = 0;

    void look(const ggml_tensor * node) {
        for (const ggml_tensor * source : node->src) {
            if (source && std::strcmp(source->name, "inp_raw") == 0) {
                pixels = std::max(pixels, ggml_nbytes(source));
            }
        }
        const ggml_tensor * owner = node->view_src ? node->view_src : node;
        if (owner->buffer &&
            ggml_backend_buffer_get_usage(owner->buffer) == GGML_BACKEND_BUFFER_USAGE_COMPUTE) {
            buffers[owner->buffer] = ggml_backend_buffer_get_size(owner->buffer);
        }
    }

    static bool on_node(ggml_tensor * node, bool ask, void * self) {
        auto & sight = *static_cast<dry_encoder::sight *>(self);
        if (ask) {
            sight.look(node);
            return !sight.buffers.empty() && sight.pixels > 0;
        }
        return false; // stop the graph
    }
};

namespace {

const model_options & fitting(const model_options & options) {
    // for two encoders, as finding out the size of the weights makes another one
    check_room("mmproj: to plan for \"" + options.mmproj_path + "\"",
               {0, 0, 2 * graph_tables(encoder_nodes)});
    return options;
}

} // namespace

dry_encoder::dry_encoder(const llama_model * model, const model_options & options,
                         const std::string & marker)
    : sight_(std::make_unique<sight>()),
      mmproj_(load_mmproj(model, fitting(options), marker, {sight::on_node, sight_.get()})) {
    mtmd_context_params params = mtmd_context_params_default();
    params.use_gpu = options.n_gpu_layers != 0;
    params.warmup = false;
    for (const auto & [device, bytes] :
         mtmd_get_memory_usage(options.mmproj_path.c_str(), params)) {
        weights_ += bytes;
    }
}

dry_encoder::~dry_encoder() = default;

encoder_bytes dry_encoder::measure(const prompt & p) {
    encoder_bytes out;
    out.weights = weights_;
    for (const prompt_chunk & chunk : p.chunks) {
        if (!chunk.image) {
            continue;
        }
        *sight_ = {};
        forget_errors();
        if (mtmd_encode_chunk(mmproj_.get(), chunk.with_pixels()) != 0 || sight_->buffers.empty()) {
            throw_logged<std::runtime_error>("image encoder cannot be planned: ");
        }
        size_t bytes = 0;
        for (const auto & [buffer, size] : sight_->buffers) {
            bytes += size;
        }
        out.compute = std::max(out.compute, bytes);
        out.prepared += sight_->pixels;
    }
    return out;
}

} // namespace lookm
