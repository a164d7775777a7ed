#include "lookm/files/doubt_list.h"

#include <algorithm>

namespace lookm {

namespace {

constexpr uint32_t most_blocks = 512, most_heads = 1024, widest = 1 << 18, largest_image = 1 << 16;

// A projector type that mtmd knows.
struct projector {
    const char * name;
    const char * tensor = ""; // a tensor that every file of this type has; "": not known
    bool fixed_table = false; // the table of positions has one row for each patch of a square image
};
constexpr projector projectors[] = {
    {"mlp", "mm.0.weight", true},
    {"ldp", "mm.model.mlp.1.weight", true},
    {"ldpv2", "mm.model.mlp.0.weight", true},
    {"resampler", "resampler.query"},
    {"adapter", "adapter.conv.weight", true},
    {"qwen2vl_merger", "v.patch_embd.weight.1"},
    {"qwen2.5vl_merger", "v.patch_embd.weight.1"},
    {"qwen3vl_merger", "v.patch_embd.weight.1"},
    {"ling3vl"},
    {"step3vl"},
    {"gemma3", "mm.input_projection.weight", true},
    {"gemma3nv"},
    {"gemma3na"},
    {"gemma4v"},
    {"gemma4a"},
    {"gemma4uv"},
    {"gemma4ua"},
    {"phi4"},
    {"idefics3", "mm.model.fc.weight", true},
    {"pixtral", "mm.1.weight"},
    {"ultravox"},
    {"internvl", "mm.model.mlp.1.weight", true},
    {"llama4"},
    {"qwen2a"},
    {"qwen3a"},
    {"glma"},
    {"qwen2.5o"},
    {"voxtral"},
    {"meralion"},
    {"musicflamingo"},
    {"lfm2"},
    {"kimivl"},
    {"paddleocr"},
    {"lightonocr"},
    {"cogvlm", "", true},
    {"janus_pro", "mm.0.weight", true},
    {"dots_ocr"},
    {"dots3note_v"},
    {"dots3note_a"},
    {"deepseekocr"},
    {"deepseekocr2"},
    {"deepseek4v"},
    {"lfm2a"},
    {"glm4v"},
    {"glm5v"},
    {"youtuvl"},
    {"yasa2"},
    {"kimik25"},
    {"nemotron_v2_vl"},
    {"exaone4_5"},
    {"hunyuanvl"},
    {"minicpmv4_6"},
    {"granite_speech"},
    {"mimovl"},
    {"minimax_m3"},
    {"granite4_vision"},
    {"mimo_audio"},
    {"parakeet"},
    {"qwen3tts_spkenc"},
    {"qwen3tts_gen"},
    {"pockettts_spkenc"},
    {"pockettts_gen"},
    {"muse-glimmer"},
};

const projector * find_projector(const std::string & name) {
    const auto * found = std::find_if(std::begin(projectors), std::end(projectors),
                                      [&](const projector & p) { return name == p.name; });
    return found == std::end(projectors) ? nullptr : found;
}

void doubt_types(doubt_list & doubts) {
    for (const std::string prefix : {"clip.vision.", "clip.audio."}) {
        for (const char * key :
             {"embedding_length", "feed_forward_length", "block_count", "projection_dim",
              "attention.head_count", "attention.head_dim", "image_size", "patch_size",
              "image_min_pixels", "image_max_pixels", "preproc_min_tiles", "preproc_max_tiles",
              "preproc_image_size", "projector.scale_factor", "spatial_merge_size", "n_wa_pattern",
              "window_size", "num_mel_bins", "projector.stack_factor"}) {
            doubts.check_type(prefix + key, GGUF_TYPE_UINT32);
        }
        doubts.check_type(prefix + "attention.layer_norm_epsilon", GGUF_TYPE_FLOAT32);
        doubts.check_type(prefix + "projector_type", GGUF_TYPE_STRING);
    }
    doubts.check_type("clip.projector_type", GGUF_TYPE_STRING);
    for (const char * key :
         {"clip.has_vision_encoder", "clip.has_audio_encoder", "clip.use_gelu", "clip.use_silu"}) {
        doubts.check_type(key, GGUF_TYPE_BOOL);
    }
}

void doubt_blocks(doubt_list & doubts) {
    const std::string v = "clip.vision.";
    const uint32_t n_blocks = count_blocks(doubts.file, "v.blk.");
    if (n_blocks == 0) {
        return;
    }
    doubts.check_count(v + "block_count", most_blocks);
    if (const auto n = doubts.file.u32(v + "block_count");
        n && *n > n_blocks && *n <= most_blocks) {
        doubts.check_equal(v + "block_count", n_blocks, "the number of blocks with tensors");
    }
    doubts.check_count(v + "embedding_length", widest);
    doubts.check_epsilon(v + "attention.layer_norm_epsilon");
    if (blocks_have(doubts.file, "v.blk.", "attn_")) {
        doubts.check_count(v + "attention.head_count", most_heads);
        doubts.check_heads(v + "embedding_length", v + "attention.head_count",
                           v + "attention.head_dim");
    }
    if (blocks_have(doubts.file, "v.blk.", "ffn_up.")) {
        doubts.check_count(v + "feed_forward_length", widest);
    }
}

void doubt_patches(doubt_list & doubts, bool fixed_table) {
    const std::string embedding = "v.patch_embd.weight", positions = "v.position_embd.weight";
    const std::string image_size = "clip.vision.image_size", patch_size = "clip.vision.patch_size";
    const gguf_header & file = doubts.file;
    const gguf_header::tensor * patches = file.find_tensor(embedding);
    if (!patches) {
        return;
    }
    doubts.check_count(image_size, largest_image);
    doubts.check_count(patch_size, largest_image);
    const bool is_square = patches->n_dims == 4 && patches->shape[0] == patches->shape[1];
    if (is_square) {
        doubts.check_equal(patch_size, patches->shape[0], "the side of " + embedding);
        doubts.check_equal("clip.vision.embedding_length", patches->shape[3],
                           "the width of " + embedding);
    }
    if (!fixed_table) {
        return;
    }
    const gguf_header::tensor * table = file.find_tensor(positions);
    if (!table) {
        doubts.add(positions, "missing", "a row for each patch of an image");
        return;
    }
    const auto pixels = file.u32(image_size), side = file.u32(patch_size);
    if (!pixels || !side || *side == 0 || (is_square && *side != patches->shape[0])) {
        return;
    }
    const uint64_t n = *pixels / *side, rows = static_cast<uint64_t>(table->shape[1]);
    if (rows != n * n && rows != n * n + 1) { // one row may belong to a class token
        doubts.add(image_size,
                   std::to_string(*pixels) + " with patches of " + std::to_string(*side) +
                       " pixels",
                   "as many patches as " + positions + " has rows, " + std::to_string(rows));
    }
}

// Outside of blocks, every bias belongs to a weight, as it is added to a product.
void doubt_biases(doubt_list & doubts) {
    const std::string bias = ".bias";
    const auto is_product = [&](const std::string & name) {
        return name.rfind("mm.", 0) == 0 && name.size() > bias.size() &&
               name.compare(name.size() - bias.size(), bias.size(), bias) == 0;
    };
    const auto weight_of = [&](const std::string & name) {
        return name.substr(0, name.size() - bias.size()) + ".weight";
    };
    for (const auto & [name, tensor] : doubts.file.tensors()) {
        if (!is_product(name) || doubts.file.find_tensor(weight_of(name))) {
            continue;
        }
        std::string other;
        for (const auto & [weight, unused] : doubts.file.tensors()) {
            const size_t dot = weight.rfind(".weight");
            const std::string lacking =
                dot == std::string::npos ? "" : weight.substr(0, dot) + bias;
            if (nearly_same(lacking, name) && !doubts.file.find_tensor(lacking)) {
                other = lacking;
            }
        }
        doubts.add(weight_of(name), "missing",
                   "it with " + name + (other.empty() ? "" : ", or " + other + " instead of that"));
        return; // one is enough, as a file may have any number of them
    }
}

} // namespace

void doubt_projector(doubt_list & doubts) {
    doubt_types(doubts);
    std::string key = "clip.projector_type";
    key = doubts.file.has(key) ? key : "clip.vision.projector_type";
    const std::string name = doubts.file.text(key).value_or("mlp");
    const projector * type = find_projector(name);
    if (!type) {
        doubts.add(key, quoted(name), "a projector type that llama.cpp knows");
    } else if (*type->tensor && !doubts.file.find_tensor(type->tensor)) {
        doubts.add(type->tensor, "missing", "with " + key + " " + quoted(name));
    }
    doubt_patches(doubts, type && type->fixed_table);
    doubt_blocks(doubts);
    doubt_biases(doubts);
}

} // namespace lookm
