#include "lookm/prompt/pruned_images.h"

#include "lookm/cache/given_positions.h"
#include "lookm/core/bad_argument.h"
#include "lookm/core/hashes.h"
#include "lookm/graph/prune_rows.h"
#include "lookm/model/token_embeddings.h"
#include "lookm/prompt/image_places.h"
#include "lookm/prompt/saved_chunk.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <optional>
#include <stdexcept>

namespace lookm {

namespace {

// Column and row of each cell; -1 -1 for a mark between them. Cells that no grid is known of stand
// in a row.
std::vector<std::array<int32_t, 2>> places_of(const mtmd_input_chunk * whole,
                                              const projector_facts & projector) {
    image_piece piece = place_cells(whole, projector);
    for (size_t i = 0; piece.nx == 0 && i < piece.place.size(); ++i) {
        piece.place[i] = {static_cast<int32_t>(i), 0};
    }
    return std::move(piece.place);
}

int32_t n_marks(std::span<const std::array<int32_t, 2>> places) {
    return static_cast<int32_t>(
        std::count_if(places.begin(), places.end(), [](const auto & p) { return p[0] < 0; }));
}

// While it lives, an image's cells see each other if its model wants that.
class attention_of_image {
  public:
    attention_of_image(llama_context * ctx, bool all) : ctx_(ctx), all_(all) {
        if (all_) {
            llama_set_causal_attn(ctx_, false);
        }
    }
    ~attention_of_image() {
        if (all_) {
            llama_set_causal_attn(ctx_, true);
        }
    }
    attention_of_image(const attention_of_image &) = delete;
    attention_of_image & operator=(const attention_of_image &) = delete;

  private:
    llama_context * ctx_;
    bool all_;
};

// Positions of the whole of a pruned chunk, from its id: ".../256/divprune/0"
std::optional<llama_pos> pruned_positions(const mtmd_input_chunk * chunk) {
    const char * const id = mtmd_input_chunk_get_id(chunk);
    const std::string text = id ? id : "";
    const size_t slash = text.find('/');
    const size_t name = slash == std::string::npos ? slash : text.find('/', slash + 1);
    const size_t end = name == std::string::npos ? name : text.find('/', name + 1);
    if (end == std::string::npos) {
        return std::nullopt;
    }
    const auto rows = pruners();
    const std::string word = text.substr(name + 1, end - name - 1);
    const bool known =
        std::any_of(rows.begin(), rows.end(), [&](const auto & r) { return word == r.name; });
    const int n = std::atoi(text.substr(slash + 1, name - slash - 1).c_str());
    return known && n > 0 ? std::optional(n) : std::nullopt;
}

// The text after the last image
std::vector<llama_token> question_of(const prompt & p) {
    std::vector<llama_token> question;
    for (const prompt_chunk & c : p.chunks) {
        if (c.image) {
            question.clear();
        }
        question.insert(question.end(), c.tokens.begin(), c.tokens.end());
    }
    return question;
}

} // namespace

mtmd::input_chunk_ptr pruned_chunk(const mtmd_input_chunk * whole, int32_t piece, int32_t n_image,
                                   const pruning & how, std::span<const llama_token> question,
                                   const projector_facts & projector) {
    if (how.asks_question() && question.empty()) {
        throw bad_argument("pruner", "\"" + std::string(how.by.name) +
                                         "\" chooses cells by the question, and no text follows "
                                         "the last image; expected another one");
    }
    const saved_chunk saved(whole);
    if (saved.positions() == cell_positions::unknown) {
        throw bad_argument("image_ratio", "this model's images (" + projector.name +
                                              ") have positions that leave no cell out; expected "
                                              "1, which reads all cells");
    }
    const bool in_a_grid = saved.positions() == cell_positions::in_a_grid;
    // an image of a grid ends at the larger of its sides: this stays if it keeps that side
    const uint32_t side = std::max(saved.columns(), saved.rows());
    const auto n = static_cast<int32_t>(mtmd_input_chunk_get_n_tokens(whole));
    const int32_t marks = n_marks(places_of(whole, projector));
    const int32_t read =
        marks + n_read(how, n - marks, n_image, in_a_grid ? static_cast<int32_t>(side) : 1);
    if (read >= n) {
        return nullptr;
    }
    std::string id = mtmd_input_chunk_get_id(whole);
    if (!id.empty()) {
        id.append("/").append(std::to_string(mtmd_input_chunk_get_n_pos(whole)));
        id.append("/").append(how.by.name).append("/").append(std::to_string(piece));
        if (how.asks_question()) {
            for (const llama_token t : question) { // a hash might be that of another question
                id.append("/").append(std::to_string(t));
            }
        } else if (how.by.pruner == pruner::random) {
            id.append("/").append(std::to_string(how.seed));
        }
    }
    mtmd::input_chunk_ptr chunk = saved.changed(in_a_grid ? side : static_cast<uint32_t>(read),
                                                in_a_grid ? read / side : 1, id);
    if (!chunk || mtmd_input_chunk_get_n_tokens(chunk.get()) != static_cast<size_t>(read) ||
        (in_a_grid &&
         mtmd_input_chunk_get_n_pos(chunk.get()) != mtmd_input_chunk_get_n_pos(whole))) {
        throw std::runtime_error("mtmd does not take a chunk with fewer cells");
    }
    return chunk;
}

void prune(prompt & p, const pruning & how, const projector_facts & projector) {
    if (!how.on()) {
        return;
    }
    std::vector<llama_token> question =
        how.asks_question() ? question_of(p) : std::vector<llama_token>();
    for (size_t i = 0; i < p.chunks.size();) {
        if (!p.chunks[i].image) {
            ++i;
            continue;
        }
        int32_t n_image = 0; // of the image that begins here, whose tiles may have text between
        size_t end = i;
        for (;
             end < p.chunks.size() && (!p.chunks[end].image || p.chunks[end].tile > 0 || end == i);
             ++end) {
            n_image += p.chunks[end].image ? p.chunks[end].n_cells() : 0;
        }
        for (; i < end; ++i) {
            prompt_chunk & c = p.chunks[i];
            if (!c.image) {
                continue;
            }
            if (mtmd::input_chunk_ptr read =
                    pruned_chunk(c.image, c.tile, n_image, how, question, projector)) {
                c.whole = c.image;
                c.image = read.get();
                p.media.pruned.push_back(std::move(read));
            }
        }
    }
    p.pruned = how;
    p.question = std::move(question);
}

std::vector<int32_t> cells_to_read(const llama_model * model, const mtmd_input_chunk * whole,
                                   int32_t n_read, const pruning & how, const float * embeddings,
                                   std::span<const llama_token> question,
                                   const projector_facts & projector) {
    auto places = places_of(whole, projector);
    if (saved_chunk(whole).positions() == cell_positions::in_a_row) {
        places.back() = {-1, -1}; // always read, as a mark is
    }
    const std::vector<float> words =
        question.empty() ? std::vector<float>() : token_embeddings(model, question);
    fnv of_image;
    of_image.add(mtmd_input_chunk_get_id(whole));
    return prune_rows({.pruner = how.by.pruner,
                       .n_keep = n_read,
                       .rows = embeddings,
                       .n = static_cast<int32_t>(places.size()),
                       .d = llama_model_n_embd(model),
                       .stride = llama_model_n_embd_inp(model),
                       .place = places,
                       .question = words,
                       .seed = how.seed ^ of_image.get()});
}

row_batch::position position_of(const mtmd_context * mmproj, const mtmd_input_chunk * image,
                                llama_pos n_past, int32_t cell) {
    if (!mtmd_decode_use_mrope(mmproj)) {
        return {n_past + cell, 0, 0, 0};
    }
    const mtmd_decoder_pos p =
        mtmd_image_tokens_get_decoder_pos(mtmd_input_chunk_get_tokens_image(image), n_past, cell);
    return {static_cast<llama_pos>(p.t), static_cast<llama_pos>(p.y), static_cast<llama_pos>(p.x),
            static_cast<llama_pos>(p.z)};
}

int32_t decode_cells(mtmd_context * mmproj, llama_context * ctx, const mtmd_input_chunk * whole,
                     std::span<const int32_t> cells, const float * embeddings, llama_pos n_past,
                     llama_seq_id seq, int32_t n_batch, llama_pos * new_n_past,
                     mtmd_helper_post_decode_callback callback, void * user_data) {
    if (!mtmd_decode_use_mrope(mmproj) && !given_positions::supported(ctx)) {
        throw bad_argument("image_ratio", "this model's memory does not allow gaps between "
                                          "positions; expected 1, which reads all cells");
    }
    const attention_of_image attention(ctx, mtmd_decode_use_non_causal(mmproj, whole));
    const auto n_embd = static_cast<size_t>(llama_model_n_embd_inp(llama_get_model(ctx)));
    row_batch batch(ctx, seq, mtmd_decode_use_mrope(mmproj), n_batch);
    batch.begin(n_past);
    for (const int32_t cell : cells) {
        batch.add({embeddings + cell * n_embd, n_embd}, position_of(mmproj, whole, n_past, cell));
        if (!batch.full() && cell != cells.back()) {
            continue;
        }
        if (const int32_t status = batch.decode(); status != 0) {
            return status;
        }
        const mtmd_helper_embd_batch view = batch.view();
        if (callback && callback(&view, user_data) != 0) {
            return -1;
        }
        batch.clear();
    }
    *new_n_past = n_past + mtmd_input_chunk_get_n_pos(whole);
    return 0;
}

bool is_pruned(const mtmd_input_chunk * chunk) {
    return pruned_positions(chunk).has_value();
}

llama_pos n_positions(const mtmd_input_chunk * chunk) {
    const std::optional<llama_pos> of_whole = pruned_positions(chunk);
    return of_whole ? *of_whole : mtmd_input_chunk_get_n_pos(chunk);
}

} // namespace lookm
