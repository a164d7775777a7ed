#include "lookm/session/joined_pieces.h"

#include "lookm/core/stopwatch.h"

#include <utility>

namespace lookm {

namespace {

bool can_join(const opened_model & opened, const prompt & p) {
    return p.n_images > 0 && opened.options.lora_path.empty() &&
           joined_rows::possible(opened.weights.get());
}

} // namespace

joined_pieces::joined_pieces(sequence & s, const prompt & p, std::function<void(int32_t)> read)
    : sequence_(s), prompt_(p), on_(can_join(s.opened(), p)),
      rows_(s.context().get(), s.opened().mmproj.get(), 0),
      decode_([&s, read = std::move(read)](row_batch & batch, std::span<const token_kind> kind) {
          s.make_room(batch.size()); // there is room, but a window of queries may begin here
          const stopwatch watch;
          s.decode(batch, kind);
          s.stats().prefill_seconds += watch.seconds();
          s.added(batch.size());
          read(batch.size());
          return 0;
      }) {}

bool joined_pieces::takes(const prompt_piece & piece) const {
    if (!on_ || piece.n > sequence_.n_before_squeeze() - rows_.size()) {
        return false;
    }
    const prompt_chunk & chunk = prompt_.chunks[piece.chunk];
    return chunk.image ? rows_.takes_image(chunk.encoded(), chunk.whole != nullptr)
                       : joined_rows::takes_text(piece.n);
}

void joined_pieces::add(std::span<const llama_token> tokens) {
    const llama_pos at = sequence_.n_past();
    sequence_.set_n_past(at + static_cast<llama_pos>(tokens.size()));
    rows_.add(tokens, at, decode_);
}

void joined_pieces::add(const prompt_chunk & image, std::span<const float> embeddings,
                        std::span<const int32_t> cells) {
    const llama_pos at = sequence_.n_past();
    sequence_.set_n_past(at + mtmd_input_chunk_get_n_pos(image.encoded()));
    rows_.add(image.encoded(), embeddings, cells, at, decode_);
}

void joined_pieces::finish() {
    rows_.finish(decode_);
}

} // namespace lookm
