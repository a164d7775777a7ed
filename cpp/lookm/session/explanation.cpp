#include "lookm/session/explanation.h"

#include "common.h"

#include <algorithm>
#include <utility>

namespace lookm {

void explanation::take(compress_result && result, std::span<const kv_layer> storage) {
    for (size_t i = 0; i < result.kept.size(); ++i) {
        layers.push_back({storage[i].il, static_cast<int32_t>(storage[i].k.n_head_kv),
                          std::move(result.kept[i]), std::move(result.merged_into.at(i)),
                          std::move(result.score.at(i))});
    }
}

explanation
explain_prompt(const opened_model & opened, const prompt & p,
               const std::function<std::vector<int32_t>(const prompt_chunk &)> & cells_read) {
    explanation out;
    out.pieces =
        image_places(opened.mmproj.get(), opened.options.mmproj_path, opened.markers.image, p);
    const llama_vocab * vocab = opened.vocab();
    int32_t piece = 0;
    for (const prompt_chunk & chunk : p.chunks) {
        if (chunk.whole) {
            image_piece & here = out.pieces.at(piece);
            const std::vector<int32_t> cells = cells_read(chunk);
            std::vector<std::array<int32_t, 2>> read;
            for (size_t i = 0; i < here.place.size(); ++i) {
                const bool is_read =
                    std::binary_search(cells.begin(), cells.end(), static_cast<int32_t>(i));
                (is_read ? read : here.pruned).push_back(here.place[i]);
            }
            here.place = std::move(read);
        }
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
