#include "lookm/server/slot_file.h"

#include "lookm/server/hook.h"
#include "lookm/server/settings.h"

#include "log.h"

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>
#include <vector>

namespace lookm::server {

namespace {

constexpr size_t n_header = 3 * sizeof(uint32_t); // magic, version, number of tokens

// What a sequence's state begins with in memory and not in a file: taken from an empty one.
std::vector<uint8_t> preamble(llama_context * ctx, llama_seq_id seq) {
    constexpr size_t n_preamble = sizeof(uint32_t) + sizeof(llama_seq_id);
    llama_memory_seq_rm(llama_get_memory(ctx), seq, -1, -1);
    std::vector<uint8_t> state(llama_state_seq_get_size(ctx, seq));
    llama_state_seq_get_data(ctx, state.data(), state.size(), seq);
    state.resize(n_preamble);
    return state;
}

} // namespace

size_t save_slot_file(llama_context * ctx, const char * path, llama_seq_id seq, const llama_token * tokens,
                      size_t n_tokens) {
    if (!current().active()) {
        return llama_state_seq_save_file(ctx, path, seq, tokens, n_tokens);
    }
    const std::string part = std::string(path) + ".part";
    size_t n_bytes = llama_state_seq_save_file(ctx, part.c_str(), seq, tokens, n_tokens);
    std::error_code error;
    if (n_bytes > 0 && std::filesystem::file_size(part, error) == n_bytes) {
        std::filesystem::rename(part, path, error);
    } else {
        n_bytes = 0; // the disk is full
    }
    if (n_bytes == 0 || error) {
        LOG_ERR("srv        lookm: cannot write %s\n", path);
        std::filesystem::remove(part, error);
        return 0;
    }
    return n_bytes;
}

size_t load_slot_file(llama_context * ctx, const char * path, llama_seq_id seq, llama_token * tokens, size_t capacity,
                      size_t * n_tokens) {
    if (!current().active() || !tokens) { // without tokens only the header is read, and checked
        return llama_state_seq_load_file(ctx, path, seq, tokens, capacity, n_tokens);
    }
    std::error_code error;
    const auto size = static_cast<size_t>(std::filesystem::file_size(path, error));
    const size_t n_prompt = capacity * sizeof(llama_token); // llama-server gives the number that the header names
    if (error || size < n_header + n_prompt) {
        return 0;
    }
    std::vector<uint8_t> state = preamble(ctx, seq);
    const size_t n_preamble = state.size();
    state.resize(n_preamble + size - n_header - n_prompt);
    std::ifstream file(path, std::ios::binary);
    uint32_t header[3] = {};
    file.read(reinterpret_cast<char *>(header), n_header);
    file.read(reinterpret_cast<char *>(tokens), static_cast<std::streamsize>(n_prompt));
    file.read(reinterpret_cast<char *>(state.data() + n_preamble),
              static_cast<std::streamsize>(state.size() - n_preamble));
    if (!file || header[2] > capacity) {
        return 0;
    }
    if (llama_state_seq_set_data(ctx, state.data(), state.size(), seq) != state.size()) {
        return 0;
    }
    const hook & h = the_hook();
    if (h.capped() && h.n_used(seq) > h.slot_cells()) { // saved by a server of larger slots
        LOG_ERR("srv        lookm: %s: %d cells do not fit into a slot's %d (--kv-cells)\n", path, h.n_used(seq),
                h.slot_cells());
        llama_memory_seq_rm(llama_get_memory(ctx), seq, -1, -1);
        return 0;
    }
    *n_tokens = header[2];
    return size;
}

} // namespace lookm::server
