#include "lookm/graph/move_rows.h"

#include "lookm/graph/host_copies.h"

#include <cstring>
#include <numeric>
#include <vector>

namespace lookm {

namespace {

// The storage as lines of cells: one line with whole rows or, if transposed, a line for each
// element of a row.
struct cell_lines {
    int64_t n_lines;
    size_t line_bytes; // from one line to the next
    size_t cell_bytes; // of one cell in a line
    int64_t width;     // elements of one cell in a line
};

cell_lines lines_of(const kv_rows & rows) {
    const ggml_type t = rows.storage->type;
    const int64_t n_embd = rows.n_head_kv * rows.head_dim;
    if (rows.transposed) {
        return {n_embd, rows.n_cells * ggml_type_size(t), ggml_type_size(t), 1};
    }
    return {1, 0, ggml_row_size(t, n_embd), n_embd};
}

int64_t count(std::span<const cell_move> moves) {
    return std::accumulate(moves.begin(), moves.end(), int64_t(0),
                           [](int64_t n, const cell_move & m) { return n + m.n; });
}

void move_on_host(const kv_rows & rows, std::span<const cell_move> moves) {
    const cell_lines lines = lines_of(rows);
    // one of several moves may write cells that another one has not read yet
    const bool held_aside = moves.size() > 1;
    std::vector<char> held(held_aside ? count(moves) * lines.cell_bytes : 0);
    for (int64_t i = 0; i < lines.n_lines; ++i) {
        char * line = static_cast<char *>(rows.storage->data) + rows.offset + i * lines.line_bytes;
        if (!held_aside) {
            const cell_move & m = moves.front();
            std::memmove(line + m.to * lines.cell_bytes, line + m.from * lines.cell_bytes,
                         m.n * lines.cell_bytes);
            continue;
        }
        char * at = held.data();
        for (const cell_move & m : moves) {
            std::memcpy(at, line + m.from * lines.cell_bytes, m.n * lines.cell_bytes);
            at += m.n * lines.cell_bytes;
        }
        at = held.data();
        for (const cell_move & m : moves) {
            std::memcpy(line + m.to * lines.cell_bytes, at, m.n * lines.cell_bytes);
            at += m.n * lines.cell_bytes;
        }
    }
}

// Adds nodes that copy the rows of all moves to a separate tensor and from there to their targets.
void build_moves(graph_runner & runner, ggml_context * ctx, const kv_rows & rows,
                 std::span<const cell_move> moves) {
    const cell_lines lines = lines_of(rows);
    ggml_tensor * storage = as_leaf(ctx, rows.storage);
    ggml_tensor * held = rows.transposed
                             ? ggml_new_tensor_2d(ctx, storage->type, count(moves), lines.n_lines)
                             : ggml_new_tensor_2d(ctx, storage->type, lines.width, count(moves));
    ggml_set_input(held); // so that no node's result shares its memory
    ggml_set_output(held);
    const auto part = [&](ggml_tensor * t, const cell_move & m, int64_t cell, size_t line_bytes,
                          size_t offset) {
        const size_t at = offset + cell * lines.cell_bytes;
        return rows.transposed ? ggml_view_2d(ctx, t, m.n, lines.n_lines, line_bytes, at)
                               : ggml_view_2d(ctx, t, lines.width, m.n, lines.cell_bytes, at);
    };
    for (const bool back : {false, true}) {
        int64_t n = 0;
        for (const cell_move & m : moves) {
            ggml_tensor * kept = part(held, m, n, held->nb[1], 0);
            ggml_tensor * cells =
                part(storage, m, back ? m.to : m.from, lines.line_bytes, rows.offset);
            ggml_build_forward_expand(runner.graph(), back ? ggml_cpy(ctx, kept, cells)
                                                           : ggml_cpy(ctx, cells, kept));
            n += m.n;
        }
    }
}

void move_on_device(graph_runner & runner, const kv_layer & layer,
                    std::span<const cell_move> moves) {
    for (const kv_rows * rows : {&layer.k, &layer.v}) {
        ggml_context * ctx = runner.begin(8 * moves.size() + 8);
        build_moves(runner, ctx, *rows, moves);
        runner.alloc();
        runner.compute();
    }
}

void move_staged(graph_runner & cpu, const kv_layer & layer, std::span<const cell_move> moves) {
    for (const kv_rows * rows : {&layer.k, &layer.v}) {
        host_copies copies(cpu.backend());
        kv_rows on_host = *rows;
        on_host.storage = copies.add(rows->storage);
        copies.fetch();
        move_on_host(on_host, moves);
        copies.put_back(on_host.storage);
        cpu.count(copies.bytes());
    }
}

} // namespace

void move_rows(graph_runner & runner, graph_runner & cpu, const kv_layer & layer,
               std::span<const cell_move> moves) {
    if (moves.empty()) {
        return;
    }
    if (ggml_backend_buffer_is_host(layer.k.storage->buffer) &&
        ggml_backend_buffer_is_host(layer.v.storage->buffer)) {
        move_on_host(layer.k, moves);
        move_on_host(layer.v, moves);
        return;
    }
    try {
        move_on_device(runner, layer, moves);
    } catch (const refused_op &) {
        move_staged(cpu, layer, moves);
    }
}

} // namespace lookm
