#include "lookm/files/doubt_list.h"

namespace lookm {

namespace {

constexpr uint32_t most_blocks = 512; // llama.cpp's limit
constexpr uint32_t widest = 1 << 20;

} // namespace

void doubt_model(doubt_list & doubts) {
    const gguf_header & file = doubts.file;
    doubts.check_type("general.architecture", GGUF_TYPE_STRING);
    const std::string arch = file.text("general.architecture").value_or("llama") + ".";
    const std::string width = arch + "embedding_length", n_blocks = arch + "block_count";
    const std::string heads = arch + "attention.head_count";
    for (const std::string & key : {arch + "context_length", width, n_blocks, arch + "expert_count",
                                    arch + "nextn_predict_layers", arch + "vocab_size"}) {
        doubts.check_type(key, GGUF_TYPE_UINT32);
    }
    doubts.check_type(arch + "rope.freq_base", GGUF_TYPE_FLOAT32);
    doubts.check_epsilon(arch + "attention.layer_norm_epsilon");
    doubts.check_epsilon(arch + "attention.layer_norm_rms_epsilon");
    doubts.check_count(arch + "context_length", UINT32_MAX);
    doubts.check_count(width, widest);
    if (const gguf_header::tensor * rows = file.find_tensor("token_embd.weight")) {
        doubts.check_equal(width, rows->shape[0], "the width of token_embd.weight");
    }
    doubts.check_count(n_blocks, most_blocks);
    const uint32_t there = count_blocks(file, "blk.");
    if (const auto n = file.u32(n_blocks); n && there > 0 && *n > there && *n <= most_blocks) {
        doubts.check_equal(n_blocks, there, "the number of blocks with tensors");
    }
    if (const auto n = file.u32(arch + "nextn_predict_layers"), all = file.u32(n_blocks);
        n && all && *n >= *all) {
        doubts.add(arch + "nextn_predict_layers", std::to_string(*n),
                   "less than block_count, " + std::to_string(*all));
    }
    const uint32_t experts = file.u32(arch + "expert_count").value_or(0);
    if (const auto n = file.u32(arch + "expert_used_count"); n && *n > experts) {
        doubts.add(arch + "expert_used_count", std::to_string(*n),
                   "at most expert_count, " + std::to_string(experts));
    }
    if (blocks_have(file, "blk.", "attn_q.")) {
        doubts.check_count(heads, widest);
        doubts.check_heads(width, heads, arch + "attention.key_length");
    }
    if (blocks_have(file, "blk.", "ffn_up.")) {
        doubts.check_count(arch + "feed_forward_length", UINT32_MAX);
    }
}

} // namespace lookm
