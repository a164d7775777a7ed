#include "lookm/prompt/image_places.h"

#include "lookm/prompt/image_facts.h"
#include "lookm/prompt/saved_chunk.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace lookm {

namespace {

using grid = std::array<int32_t, 2>;

// The cells that a projector puts around and between the cells of a grid. columns: none, but cells
// are ordered by columns instead of rows.
enum class filling { nothing, columns, breaks, begin_and_end, newlines, no_grid, unknown };

filling filling_of(const projector_facts & projector) {
    static const std::vector<std::string> plain = {
        "mlp",      "ldp",     "ldpv2",     "internvl",  "idefics3",       "gemma3",
        "gemma4v",  "lfm2",    "phi4",      "janus_pro", "qwen2vl_merger", "qwen2.5vl_merger",
        "qwen2.5o", "pixtral", "paddleocr", "glm4v",     "qwen3vl_merger"};
    if (projector.name == "pixtral" && projector.has_row_breaks) {
        return filling::breaks;
    }
    if (projector.name == "cogvlm") {
        return filling::begin_and_end;
    }
    // llama4's pixel shuffle swaps rows and columns and does not swap them back
    if (projector.name == "llama4") {
        return filling::columns;
    }
    if (projector.name == "hunyuanvl") {
        return filling::newlines;
    }
    if (projector.name == "resampler") {
        return filling::no_grid;
    }
    return std::find(plain.begin(), plain.end(), projector.name) != plain.end() ? filling::nothing
                                                                                : filling::unknown;
}

// The grid of n = nx * ny equal squares on width x height pixels; 0 x 0 if there is none.
grid squares(int64_t n, int64_t width, int64_t height) {
    for (int64_t ny = 1; ny <= n; ++ny) {
        if (n % ny == 0 && (n / ny) * height == ny * width) {
            return {static_cast<int32_t>(n / ny), static_cast<int32_t>(ny)};
        }
    }
    return {0, 0};
}

// The same with a break after each row but the last: n = nx * ny + ny - 1.
grid squares_with_breaks(int64_t n, int64_t width, int64_t height) {
    for (int64_t ny = 1; ny <= n; ++ny) {
        const int64_t nx = (n + 1) / ny - 1;
        if ((n + 1) % ny == 0 && nx > 0 && nx * height == ny * width) {
            return {static_cast<int32_t>(nx), static_cast<int32_t>(ny)};
        }
    }
    return {0, 0};
}

// Places cells row by row, starting with the cell `first`, and skips `skip` cells after each row.
// first = -1: the first place of the grid has no cell.
void place_rows(image_piece & piece, const grid & size, int64_t first, int32_t skip) {
    piece.nx = size[0];
    piece.ny = size[1];
    int64_t i = first;
    for (int32_t y = 0; y < size[1]; ++y, i += skip) {
        for (int32_t x = 0; x < size[0]; ++x, ++i) {
            if (i >= 0) {
                piece.place.at(i) = {x, y};
            }
        }
    }
}

void place_by_pixels(image_piece & piece, const projector_facts & projector,
                     const piece_facts & facts) {
    const filling f = filling_of(projector);
    const auto n = std::ssize(piece.place);
    if (f == filling::breaks) {
        place_rows(piece, squares_with_breaks(n, facts.width, facts.height), 0, 1);
    } else if (f == filling::begin_and_end) {
        place_rows(piece, squares(n - 2, facts.width, facts.height), 1, 0);
    } else if (f == filling::columns) {
        const auto [nx, ny] = squares(n, facts.width, facts.height);
        place_rows(piece, {ny, nx}, 0, 0);
        std::swap(piece.nx, piece.ny);
        for (auto & [x, y] : piece.place) {
            std::swap(x, y);
        }
    } else if (f == filling::nothing) {
        const bool one_on = projector.one_patch_on && projector.name == "mlp";
        place_rows(piece, squares(n, facts.width, facts.height), one_on ? -1 : 0, 0);
    }
}

// Sets columns and rows from mtmd's positions, and returns whether it gives two-dimensional ones.
// With M-RoPE, all cells have the same time. HunyuanVL has a newline as the last column, and one
// cell before and one after the grid.
bool place_by_positions(image_piece & piece, filling f, const mtmd_input_chunk * chunk) {
    const mtmd_image_tokens * tokens = mtmd_input_chunk_get_tokens_image(chunk);
    const size_t n = piece.place.size();
    const auto at = [&](size_t i) { return mtmd_image_tokens_get_decoder_pos(tokens, 0, i); };
    const bool rows = f == filling::newlines;
    if (n < 2 || (!rows && at(1).t != 0)) {
        return false;
    }
    for (size_t i = rows ? 1 : 0; i < n - (rows ? 1 : 0); ++i) {
        const mtmd_decoder_pos pos = at(i);
        // HunyuanVL's column is what mtmd calls y
        piece.place[i] = {static_cast<int32_t>(rows ? pos.y : pos.x),
                          static_cast<int32_t>(rows ? pos.x : pos.y)};
        piece.nx = std::max(piece.nx, piece.place[i][0] + 1);
        piece.ny = std::max(piece.ny, piece.place[i][1] + 1);
    }
    if (rows) {
        --piece.nx;
        for (auto & place : piece.place) {
            place = place[0] == piece.nx ? std::array<int32_t, 2>{-1, -1} : place;
        }
    }
    return true;
}

// The area (image_piece) that a canvas of width x height pixels shows: exactly the image if it is
// stretched; otherwise the image is scaled to fit and centred, and the canvas shows padding as
// well.
std::array<double, 4> canvas_area(const image_size & image, double width, double height,
                                  bool stretched) {
    if (stretched) {
        return {0, 0, 1, 1};
    }
    const double scale = std::min(width / image.width, height / image.height);
    const double w = std::min(std::ceil(image.width * scale), width);
    const double h = std::min(std::ceil(image.height * scale), height);
    const double left = std::floor((width - w) / 2), top = std::floor((height - h) / 2);
    return {-left / w, -top / h, (width - left) / w, (height - top) / h};
}

// Sets the areas of tiles, which cut a canvas into columns and rows; the last ones may be smaller.
void place_tiles(std::span<image_piece> pieces, std::span<const piece_facts> tiles,
                 const image_facts & cut, const image_size & image, bool stretched) {
    std::vector<double> left = {0}, top = {0};
    for (int32_t x = 0; x < cut.columns; ++x) {
        left.push_back(left.back() + tiles[x].width);
    }
    for (int32_t y = 0; y < cut.rows; ++y) {
        top.push_back(top.back() + tiles[y * cut.columns].height);
    }
    const auto canvas = canvas_area(image, left.back(), top.back(), stretched);
    const double w = (canvas[2] - canvas[0]) / left.back(),
                 h = (canvas[3] - canvas[1]) / top.back();
    for (size_t i = 0; i < tiles.size(); ++i) {
        const size_t x = i % cut.columns, y = i / cut.columns;
        pieces[i].area = {canvas[0] + left[x] * w, canvas[1] + top[y] * h,
                          canvas[0] + left[x + 1] * w, canvas[1] + top[y + 1] * h};
        pieces[i].has_area = true;
    }
}

// Sets the areas of one image's pieces: the whole, alone or with tiles before or after it.
void set_areas(std::span<image_piece> pieces, const image_size & image, const image_facts & facts,
               const projector_facts & projector) {
    const size_t n_tiles = pieces.size() - 1;
    const size_t first_tile = projector.whole_first ? 1 : 0;
    const size_t whole = projector.whole_first ? 0 : n_tiles;
    const auto tiles = pieces.subspan(first_tile, n_tiles);
    for (image_piece & tile : tiles) {
        tile.kind = piece_kind::tile;
    }
    const bool pixels_known = std::all_of(facts.pieces.begin(), facts.pieces.end(),
                                          [](const piece_facts & p) { return p.width > 0; });
    if (!pixels_known || static_cast<size_t>(facts.columns) * facts.rows != n_tiles) {
        return;
    }
    const piece_facts & seen = facts.pieces[whole];
    pieces[whole].area = canvas_area(image, seen.width, seen.height, facts.has_whole);
    pieces[whole].has_area = true;
    if (n_tiles > 0) {
        place_tiles(tiles, std::span(facts.pieces).subspan(first_tile, n_tiles), facts, image,
                    projector.stretches_tiles);
    }
    for (image_piece & piece : pieces) {
        // a cell is 2 x 2 patches here, so one patch is half a cell
        if (projector.one_patch_on && projector.name != "mlp" && piece.nx > 0) {
            const double half = (piece.area[2] - piece.area[0]) / (2 * piece.nx);
            piece.area[0] += half;
            piece.area[2] += half;
        }
    }
}

image_piece placed(const mtmd_input_chunk * chunk, const projector_facts & projector,
                   const piece_facts & seen) {
    image_piece piece;
    piece.place.assign(seen.n_cells, {-1, -1});
    if (!place_by_positions(piece, filling_of(projector), chunk)) {
        place_by_pixels(piece, projector, seen);
    }
    return piece;
}

} // namespace

image_piece place_cells(const mtmd_input_chunk * chunk, const projector_facts & projector) {
    const auto [width, height] = saved_chunk(chunk).pixels();
    const auto n_cells = static_cast<int32_t>(mtmd_input_chunk_get_n_tokens(chunk));
    return placed(chunk, projector, {width, height, n_cells});
}

std::vector<image_piece> image_places(const mtmd_context * mmproj, const std::string & mmproj_path,
                                      const std::string & image_marker, const prompt & p) {
    const std::vector<image_size> & images = p.media.sizes;
    std::vector<image_piece> pieces;
    if (images.empty()) {
        return pieces;
    }
    const projector_facts projector = read_projector(mmproj_path);
    const filling f = filling_of(projector);
    std::vector<const mtmd_input_chunk *> chunks;
    for (const prompt_chunk & c : p.chunks) {
        if (c.image) {
            chunks.push_back(c.encoded());
        }
    }
    for (size_t i = 0; i < images.size(); ++i) {
        const image_facts facts = read_image_facts(mmproj, image_marker, images[i]);
        const size_t first = pieces.size();
        for (const piece_facts & seen : facts.pieces) {
            const size_t k = pieces.size();
            if (k >= chunks.size() ||
                mtmd_input_chunk_get_n_tokens(chunks[k]) != static_cast<size_t>(seen.n_cells)) {
                throw std::runtime_error("explain: mtmd cut image " + std::to_string(i + 1) +
                                         " differently the second time");
            }
            pieces.push_back(placed(chunks[k], projector, seen));
            pieces.back().image = static_cast<int32_t>(i);
        }
        if (f != filling::unknown) {
            set_areas(std::span(pieces).subspan(first), images[i], facts, projector);
        }
    }
    if (pieces.size() != chunks.size()) {
        throw std::runtime_error("explain: mtmd cut the images differently the second time");
    }
    return pieces;
}

} // namespace lookm
