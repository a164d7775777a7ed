#pragma once

#include "lookm/core/pruning.h"
#include "lookm/prompt/image_facts.h"
#include "lookm/prompt/prompt.h"
#include "lookm/prompt/row_batch.h"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace lookm {

// mtmd's chunk of the cells of an image's piece that are read, without pixels. Its id names the
// pruner, and what else decides which cells those are, so that no other chunk is taken for it.
// Where positions are in a row, the last cell is always read, as llama.cpp goes on after its
// position. piece: which of its image's pieces. n_image: cells of all of them. Null if all cells
// are read. Throws bad_argument "image_ratio" if the image's positions do not allow to leave cells
// out.
mtmd::input_chunk_ptr pruned_chunk(const mtmd_input_chunk * whole, int32_t piece, int32_t n_image,
                                   const pruning & how, std::span<const llama_token> question,
                                   const projector_facts & projector);

// Replaces the images of a prompt by those of the cells that are read; the question is the text
// after the last one. Throws what pruned_chunk does.
void prune(prompt & p, const pruning & how, const projector_facts & projector);

// Which cells of a piece are read, in ascending order. embeddings: of all cells, as the encoder has
// made them. question: its tokens, for a pruner that asks for it.
std::vector<int32_t> cells_to_read(const llama_model * model, const mtmd_input_chunk * whole,
                                   int32_t n_read, const pruning & how, const float * embeddings,
                                   std::span<const llama_token> question,
                                   const projector_facts & projector);

// Position of a cell of an image that begins at n_past.
row_batch::position position_of(const mtmd_context * mmproj, const mtmd_input_chunk * image,
                                llama_pos n_past, int32_t cell);

// Like mtmd_helper_decode_image_chunk(), for some cells of a piece. They keep their positions, and
// what follows begins where it would after the whole. embeddings: of all cells. Throws bad_argument
// "image_ratio" for a memory whose cells cannot have positions with gaps.
int32_t decode_cells(mtmd_context * mmproj, llama_context * ctx, const mtmd_input_chunk * whole,
                     std::span<const int32_t> cells, const float * embeddings, llama_pos n_past,
                     llama_seq_id seq, int32_t n_batch, llama_pos * new_n_past,
                     mtmd_helper_post_decode_callback callback, void * user_data);

// Whether this is a pruned_chunk(), by its id.
bool is_pruned(const mtmd_input_chunk * chunk);
// Positions that a chunk takes. Of a pruned one, those of the whole.
llama_pos n_positions(const mtmd_input_chunk * chunk);

} // namespace lookm
