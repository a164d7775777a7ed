#include "lookm/session/joined_pieces.h"

#include "lookm/cache/given_positions.h"
#include "lookm/core/stopwatch.h"
#include "lookm/model/token_embeddings.h"
#include "lookm/prompt/pruned_images.h"

#include <cstdlib>
#include <string_view>
#include <utility>

namespace lookm {

namespace {

// A longer text is read about as fast by itself, and its tokens are much smaller than its rows.
constexpr int32_t n_long = 128;

// Whether the environment asks for pieces that are read one by one, as llama-server reads them.
bool is_off() {
    const char * const given = std::getenv("LOOKM_JOIN");
    return given && std::string_view(given) == "off";
}

// A mask of a sliding window would see the cells of several pruned images too close together.
bool can_join(const opened_model & opened, const prompt & p) {
    const llama_model * const model = opened.weights.get();
    return !is_off() && p.n_images > 0 && opened.options.lora_path.empty() &&
           llama_model_n_swa(model) == 0 && reads_rows_as_tokens(model);
}

} // namespace

joined_pieces::joined_pieces(sequence & s, const prompt & p, std::function<void(int32_t)> read)
    : sequence_(s), prompt_(p), read_(std::move(read)), on_(can_join(s.opened(), p)),
      batch_(s.context().get(), 0, on_ && mtmd_decode_use_mrope(s.opened().mmproj.get()),
             static_cast<int32_t>(llama_n_ubatch(s.context().get()))) {}

bool joined_pieces::takes(const prompt_piece & piece) const {
    if (!on_ || piece.n > sequence_.n_before_squeeze() - batch_.size()) {
        return false;
    }
    const prompt_chunk & chunk = prompt_.chunks[piece.chunk];
    if (!chunk.image) {
        return piece.n < n_long;
    }
    const mtmd_context * const mmproj = sequence_.opened().mmproj.get();
    const bool gaps = chunk.whole && !mtmd_decode_use_mrope(mmproj);
    return !mtmd_decode_use_non_causal(mmproj, chunk.encoded()) &&
           (!gaps || given_positions::supported(sequence_.context().get()));
}

void joined_pieces::add(std::span<const llama_token> tokens) {
    if (tokens.empty()) { // a context of nothing but a control token
        return;
    }
    if (batch_.empty()) {
        batch_.begin(sequence_.n_past());
    }
    const std::vector<float> rows = token_embeddings(sequence_.opened().weights.get(), tokens);
    const size_t n_embd = rows.size() / tokens.size();
    llama_pos at = sequence_.n_past();
    sequence_.set_n_past(at + static_cast<llama_pos>(tokens.size()));
    for (auto row = rows.begin(); row != rows.end(); row += n_embd, ++at) {
        add({row, row + n_embd}, {at, at, at, 0}, token_kind::text);
    }
}

void joined_pieces::add(const prompt_chunk & image, std::span<const float> embeddings,
                        std::span<const int32_t> cells) {
    const mtmd_context * const mmproj = sequence_.opened().mmproj.get();
    const llama_pos begin = sequence_.n_past();
    if (batch_.empty()) {
        batch_.begin(begin);
    }
    const size_t n_embd = embeddings.size() / image.n_encoded();
    sequence_.set_n_past(begin + mtmd_input_chunk_get_n_pos(image.encoded()));
    for (int32_t i = 0; i < image.n_cells(); ++i) {
        const int32_t cell = image.whole ? cells[i] : i;
        add(embeddings.subspan(cell * n_embd, n_embd),
            position_of(mmproj, image.encoded(), begin, cell), token_kind::image);
    }
}

void joined_pieces::add(std::span<const float> row, const row_batch::position & at,
                        token_kind kind) {
    batch_.add(row, at);
    kind_.push_back(kind);
    if (batch_.full()) {
        finish();
    }
}

void joined_pieces::finish() {
    if (batch_.empty()) {
        return;
    }
    sequence_.make_room(batch_.size()); // there is room, but a window of queries may begin here
    const stopwatch watch;
    sequence_.decode(batch_, kind_);
    sequence_.stats().prefill_seconds += watch.seconds();
    sequence_.added(batch_.size());
    read_(batch_.size());
    batch_.clear();
    kind_.clear();
}

} // namespace lookm
