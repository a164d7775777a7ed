#include "lookm/session/explanation.h"

#include "common.h"

namespace lookm {

void explanation::take(compress_result && result, std::span<const kv_layer> storage) {
    for (size_t i = 0; i < result.kept.size(); ++i) {
        layers.push_back({storage[i].il, static_cast<int32_t>(storage[i].k.n_head_kv),
                          std::move(result.kept[i]), std::move(result.merged_into.at(i)),
                          std::move(result.score.at(i))});
    }
}

explanation explain_prompt(const llama_model * model, const mtmd_context * mmproj,
                           const std::string & mmproj_path, const std::string & image_marker,
                           const prompt & p) {
    explanation out;
    out.pieces = image_places(mmproj, mmproj_path, image_marker, p);
    const llama_vocab * vocab = llama_model_get_vocab(model);
    int32_t piece = 0;
    for (const prompt_chunk & chunk : p.chunks) {
        if (chunk.image) {
            for (const auto & place : out.pieces.at(piece).place) {
                out.cells.push_back({token_kind::image, piece, place, ""});
            }
            ++piece;
        }
        for (size_t i = 0; i < chunk.tokens.size(); ++i) {
            const std::string text =
                common_token_to_piece(vocab, chunk.tokens[i], /*special =*/true);
            out.cells.push_back({chunk.kind[i], -1, {-1, -1}, text});
        }
    }
    return out;
}

} // namespace lookm
