#include "lookm/cache/sequence_numbers.h"

#include "lookm/core/state_bytes.h"

#include "llama.h"

namespace lookm {

namespace {

// Takes the bytes of K or V of one layer, for all cells.
std::span<const uint8_t> take_values(state_reader & in, ggml_type type, bool transposed,
                                     uint64_t n_cells) {
    uint64_t n_bytes = 0; // of one cell
    if (in.get<int32_t>() != type) {
        state_reader::fail();
    }
    if (transposed) {
        const uint64_t size = in.get<uint32_t>();
        n_bytes = size * in.get<uint32_t>();
    } else {
        n_bytes = in.get<uint64_t>();
    }
    if (n_bytes > in.n_left() / n_cells) {
        state_reader::fail();
    }
    return {in.bytes(n_bytes * n_cells), n_bytes * n_cells};
}

bool check_stream(state_reader & in, const cache_form & form) {
    const uint64_t n_cells = in.get<uint32_t>();
    if (n_cells == 0) {
        return true;
    }
    for (uint64_t i = 0; i < n_cells; ++i) {
        in.get<llama_pos>();
        const uint64_t n_sequences = in.get<uint32_t>();
        in.bytes(form.cell_bytes + n_sequences * sizeof(llama_seq_id));
    }
    in.get<uint32_t>(); // whether V is transposed, which llama.cpp checks
    const auto n_layers = in.get<uint32_t>();
    const auto check = [&](ggml_type type, bool transposed) {
        for (uint32_t i = 0; i < n_layers; ++i) {
            const std::span<const uint8_t> values = take_values(in, type, transposed, n_cells);
            if (values.size() % ggml_type_size(type) != 0 ||
                !ggml_validate_row_data(type, values.data(), values.size())) {
                return false;
            }
        }
        return true;
    };
    return check(form.type_k, false) && check(form.type_v, form.v_transposed);
}

} // namespace

bool holds_numbers(std::span<const uint8_t> sequence, std::span<const cache_form> forms) {
    state_reader in(sequence);
    in.get<uint32_t>(); // magic number
    in.get<llama_seq_id>();
    for (const cache_form & form : forms) {
        const auto n_streams = in.get<uint32_t>();
        for (uint32_t s = 0; s < n_streams; ++s) {
            if (!check_stream(in, form)) {
                return false;
            }
        }
    }
    return true;
}

} // namespace lookm
