#include "lookm/cache/key_rotation.h"

#include "llama-context.h"
#include "llama-model.h"

#include "ggml.h"

#include <cmath>
#include <vector>

namespace lookm {

namespace {

// M-RoPE with the same distance for time, row and column is the rotation of halves.
int mode_of(llama_rope_type type) {
    return type == LLAMA_ROPE_TYPE_MROPE || type == LLAMA_ROPE_TYPE_IMROPE ? LLAMA_ROPE_TYPE_NEOX
                                                                           : type;
}

// ggml multiplies what it rotates by 1 + 0.1 log(1 / scale) with YaRN. Keys have been multiplied
// already.
float undo_yarn_scale(float ext_factor, float freq_scale) {
    return ext_factor == 0.0f ? 1.0f : 1.0f / (1.0f - 0.1f * std::log(freq_scale));
}

} // namespace

key_rotation::key_rotation(llama_context * ctx, const kv_cache & kv)
    : ctx_(ctx), kv_(kv), cpu_(kv.cpu_backend()) {}

bool key_rotation::turn(size_t layer, std::span<float> keys, int64_t n_cells, llama_pos by) {
    const llama_model & model = ctx_->get_model();
    const llama_hparams & hparams = model.hparams;
    const llama_cparams & c = ctx_->get_cparams();
    const int32_t il = kv_.layers()[layer].il;
    const int mode = mode_of(hparams.rope_type);
    if (by == 0 || mode == LLAMA_ROPE_TYPE_NONE || !hparams.has_rope(il)) {
        return false;
    }
    const kv_rows & k = kv_.layers()[layer].k;
    const float freq_base = model.get_rope_freq_base(c, il);
    const float freq_scale = model.get_rope_freq_scale(c, il);
    const ggml_tensor * factors = model.get_rope_factors(c, il);

    ggml_context * graph = cpu_.begin(1);
    ggml_tensor * x = ggml_new_tensor_3d(graph, GGML_TYPE_F32, k.head_dim, k.n_head_kv, n_cells);
    ggml_tensor * distance = ggml_new_tensor_1d(graph, GGML_TYPE_I32, n_cells);
    ggml_tensor * frequencies =
        factors ? ggml_new_tensor(graph, factors->type, GGML_MAX_DIMS, factors->ne) : nullptr;
    for (ggml_tensor * input : {x, distance, frequencies}) {
        if (input) {
            ggml_set_input(input);
        }
    }
    ggml_tensor * turned = ggml_rope_ext(
        graph, x, distance, frequencies, static_cast<int>(hparams.n_rot(il)), mode,
        static_cast<int>(c.n_ctx_orig_yarn), freq_base, freq_scale, c.yarn_ext_factor,
        undo_yarn_scale(c.yarn_ext_factor, freq_scale), c.yarn_beta_fast, c.yarn_beta_slow);
    ggml_set_output(turned);
    ggml_build_forward_expand(cpu_.graph(), turned);
    cpu_.alloc();
    const std::vector<int32_t> distances(n_cells, by);
    ggml_backend_tensor_set(x, keys.data(), 0, keys.size_bytes());
    ggml_backend_tensor_set(distance, distances.data(), 0, distances.size() * sizeof(int32_t));
    if (factors) {
        std::vector<char> bytes(ggml_nbytes(factors));
        ggml_backend_tensor_get(factors, bytes.data(), 0, bytes.size());
        ggml_backend_tensor_set(frequencies, bytes.data(), 0, bytes.size());
    }
    cpu_.compute();
    ggml_backend_tensor_get(turned, keys.data(), 0, keys.size_bytes());
    return true;
}

} // namespace lookm
