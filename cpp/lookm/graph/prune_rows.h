#pragma once

#include "lookm/core/pruning.h"

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace lookm {

// The cells of a piece of an image, and which of them to read.
struct prune_task {
    enum pruner pruner;
    int32_t n_keep; // of n
    // what the encoder has made of the cells: the first d of every `stride` floats
    const float * rows;
    int32_t n;
    int64_t d, stride;
    // column and row of each cell; -1 -1: a mark without a place, which is always read
    std::span<const std::array<int32_t, 2>> place;
    std::span<const float> question; // [n_tokens, d]: embeddings of its tokens, for cdpruner
    uint64_t seed = 0;
};

// Chooses the cells in ascending order: all marks, and others so that they are n_keep together (no
// fewer than the marks). With s_ij the cosine of rows i and j:
//
//   divprune  Greedy max-min diversity (Alvar et al. 2025, eq. 3 to 5, as in the authors' code):
//   the
//             first cell has the largest distance 1 - s to its nearest other cell; each next one
//             has the largest distance to its nearest chosen cell.
//   cdpruner  Greedy maximum of the determinant of L_ij = r_i s_ij r_j (Zhang et al. 2025, eq. 6 to
//             9, by the incremental Cholesky factorization of Chen et al. 2018). r is the mean
//             cosine of a row and the question's tokens, scaled to [1e-6, 1] over the piece. Once
//             no cell adds to the determinant, the most relevant ones follow.
//   grid      The n_keep smallest of frac(0.7548776662466927 x + 0.5698402909980532 y) of columns x
//             and rows y: the multiples of two powers of the plastic number fill the plane evenly.
//   random    The n_keep smallest of a hash of the seed and the cell.
//
// Ties go to the lower cell. Of more than 4096 cells, each run of 4096 chooses its share for
// itself, so that time and memory grow only linearly with the cells.
std::vector<int32_t> prune_rows(const prune_task & task);

} // namespace lookm
