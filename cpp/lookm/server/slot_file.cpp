#include "lookm/server/slot_file.h"

#include "lookm/cache/sequence_numbers.h"
#include "lookm/server/hook.h"
#include "lookm/server/settings.h"

#include "log.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <span>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

namespace lookm::server {

namespace {

constexpr size_t n_header = 3 * sizeof(uint32_t); // magic, version, number of tokens

// Follows llama.cpp's bytes.
struct checksum {
    char magic[8];
    uint64_t value;

    static constexpr char lookms[] = "LOOKMSUM";
    bool is_there() const { return std::memcmp(magic, lookms, sizeof(magic)) == 0; }
};

// Of the first n bytes of a file. Any 8 of them affect all bits of the sum.
uint64_t sum_of(std::ifstream & file, size_t n) {
    uint64_t sum = 0x9E3779B97F4A7C15u ^ n;
    std::vector<uint64_t> words(1 << 17);
    file.seekg(0);
    while (n > 0) {
        const size_t n_now = std::min(n, words.size() * sizeof(uint64_t));
        words[(n_now - 1) / sizeof(uint64_t)] = 0; // the read may fill only part of the last word
        file.read(reinterpret_cast<char *>(words.data()), static_cast<std::streamsize>(n_now));
        for (size_t i = 0; i < (n_now + sizeof(uint64_t) - 1) / sizeof(uint64_t); ++i) {
            sum = (sum ^ words[i]) * 0xBF58476D1CE4E5B9u;
            sum ^= sum >> 29;
        }
        n -= n_now;
    }
    return sum;
}

size_t size_of(const std::string & path) {
    std::error_code error;
    const auto size = std::filesystem::file_size(path, error);
    return error ? 0 : static_cast<size_t>(size);
}

// The end of a file. If it is not a checksum, its magic is another.
checksum read_checksum(std::ifstream & file, size_t size) {
    checksum out = {};
    if (size >= n_header + sizeof(out)) {
        file.seekg(static_cast<std::streamoff>(size - sizeof(out)));
        file.read(reinterpret_cast<char *>(&out), sizeof(out));
    }
    return out;
}

bool add_checksum(const std::string & path) {
    std::ifstream in(path, std::ios::binary);
    checksum sum = {};
    std::memcpy(sum.magic, checksum::lookms, sizeof(sum.magic));
    sum.value = sum_of(in, size_of(path));
    std::ofstream out(path, std::ios::binary | std::ios::app);
    out.write(reinterpret_cast<const char *>(&sum), sizeof(sum));
    out.close();
    return in && out;
}

// Gives a file of n bytes that is complete its checksum and its name. Returns whether it could.
bool put_in_place(const std::string & part, const std::string & path, size_t n_bytes) {
    std::error_code error;
    const bool complete = n_bytes > 0 && size_of(part) == n_bytes && add_checksum(part) &&
                          size_of(part) == n_bytes + sizeof(checksum); // else the disk is full
    if (complete) {
        std::filesystem::rename(part, path, error);
    }
    if (complete && !error) {
        return true;
    }
    LOG_ERR("srv        lookm: cannot write %s\n", path.c_str());
    std::filesystem::remove(part, error);
    return false;
}

std::string prefix_path(const std::string & path) {
    return path + ".prefix";
}

void save_prefix(const std::string & path, const llama_token * tokens, size_t n_tokens) {
    const std::string target = prefix_path(path), part = target + ".part";
    std::error_code error;
    std::filesystem::remove(target, error); // of an earlier prompt
    try {
        const std::vector<uint8_t> saved = server_hook().prefixes().saved(
            server_tokens::deserialize({tokens, tokens + n_tokens}, /*has_mtmd =*/true));
        if (saved.empty()) {
            return;
        }
        std::ofstream out(part, std::ios::binary);
        out.write(reinterpret_cast<const char *>(saved.data()),
                  static_cast<std::streamsize>(saved.size()));
        out.close();
        put_in_place(part, target, saved.size());
    } catch (const std::exception & why) { // the tokens, or too little memory
        LOG_WRN("srv        lookm: cannot write %s: %s\n", target.c_str(), why.what());
    }
}

void load_prefix(const std::string & path) {
    const std::string source = prefix_path(path);
    std::ifstream file(source, std::ios::binary);
    const size_t size = size_of(source);
    if (!file || size < sizeof(checksum)) {
        return;
    }
    try {
        const std::string damage =
            read_checksum(file, size).is_there() ? damage_of(source) : "it has no checksum";
        if (!damage.empty()) {
            throw std::invalid_argument(damage);
        }
        std::vector<uint8_t> saved(size - sizeof(checksum));
        file.clear();
        file.seekg(0);
        file.read(reinterpret_cast<char *>(saved.data()),
                  static_cast<std::streamsize>(saved.size()));
        server_hook().take_prefix(saved);
    } catch (const std::exception & why) {
        LOG_WRN("srv        lookm: %s is not used: %s\n", source.c_str(), why.what());
    }
}

// Positions that a file's tokens take at most. Pruned images take more than they have tokens.
int64_t most_positions(std::span<const llama_token> tokens) {
    const auto n = std::ssize(tokens);
    try {
        const auto prompt =
            server_tokens::deserialize({tokens.begin(), tokens.end()}, /*has_mtmd =*/true);
        return std::max<int64_t>(n, prompt.pos_next());
    } catch (const std::exception &) { // llama-server says so itself
        return n;
    }
}

// Whether the cells of a sequence's first cache have positions that its tokens can have. llama.cpp
// accepts any position, and a cell at a negative one could never be removed.
bool has_positions(std::span<const uint8_t> state, size_t at, int32_t cell_bytes,
                   std::span<const llama_token> tokens) {
    const int64_t most = most_positions(tokens);
    const auto take = [&]() -> int64_t {
        int32_t value = -1;
        if (at + sizeof(value) > state.size()) {
            return -1;
        }
        std::memcpy(&value, state.data() + at, sizeof(value));
        at += sizeof(value);
        return value;
    };
    take(); // number of streams, which is one
    const int64_t n_cells = take();
    if (n_cells < 0 || n_cells > std::ssize(tokens)) {
        return false;
    }
    for (int64_t i = 0; i < n_cells; ++i) {
        const int64_t pos = take();
        const int64_t n_seq = take();
        at += cell_bytes;
        if (pos < 0 || pos >= most || n_seq != 1 || take() < 0) {
            return false;
        }
    }
    return true;
}

// Whether all cells hold numbers: a NaN would spoil the answers of other slots.
bool has_numbers(std::span<const uint8_t> state, std::span<const cache_form> forms) {
    try {
        return holds_numbers(state, forms);
    } catch (const std::invalid_argument &) { // no such sequence
        return false;
    }
}

// The bytes that a sequence's state begins with in memory but not in a file. Empties the sequence.
std::vector<uint8_t> preamble(llama_context * ctx, llama_seq_id seq) {
    constexpr size_t n_preamble = sizeof(uint32_t) + sizeof(llama_seq_id);
    llama_memory_seq_rm(llama_get_memory(ctx), seq, -1, -1);
    std::vector<uint8_t> state(llama_state_seq_get_size(ctx, seq));
    llama_state_seq_get_data(ctx, state.data(), state.size(), seq);
    state.resize(n_preamble);
    return state;
}

} // namespace

size_t save_slot_file(llama_context * ctx, const char * path, llama_seq_id seq,
                      const llama_token * tokens, size_t n_tokens) {
    if (!server_settings().active()) {
        return llama_state_seq_save_file(ctx, path, seq, tokens, n_tokens);
    }
    const std::string part = std::string(path) + ".part";
    const size_t n_bytes = llama_state_seq_save_file(ctx, part.c_str(), seq, tokens, n_tokens);
    if (!put_in_place(part, path, n_bytes)) {
        return 0;
    }
    save_prefix(path, tokens, n_tokens);
    return n_bytes;
}

size_t load_slot_file(llama_context * ctx, const char * path, llama_seq_id seq,
                      llama_token * tokens, size_t capacity, size_t * n_tokens) {
    if (!server_settings().active() || !tokens) { // without tokens, only the header is read
        return llama_state_seq_load_file(ctx, path, seq, tokens, capacity, n_tokens);
    }
    const std::string damage = damage_of(path);
    size_t size = size_of(path);
    std::ifstream file(path, std::ios::binary);
    size -= read_checksum(file, size).is_there() ? sizeof(checksum) : 0;
    const size_t n_prompt =
        capacity * sizeof(llama_token); // llama-server passes the number in the header
    if (!damage.empty() || size < n_header + n_prompt) {
        LOG_ERR("srv        lookm: %s: %s\n", path,
                damage.empty() ? "it is too short" : damage.c_str());
        return 0;
    }
    std::vector<uint8_t> state = preamble(ctx, seq);
    const size_t n_preamble = state.size();
    state.resize(n_preamble + size - n_header - n_prompt);
    file.clear();
    file.seekg(0);
    uint32_t header[3] = {};
    file.read(reinterpret_cast<char *>(header), n_header);
    file.read(reinterpret_cast<char *>(tokens), static_cast<std::streamsize>(n_prompt));
    file.read(reinterpret_cast<char *>(state.data() + n_preamble),
              static_cast<std::streamsize>(state.size() - n_preamble));
    if (!file || header[2] > capacity) {
        return 0;
    }
    if (!has_positions(state, n_preamble, kv_cache::forms(ctx).front().cell_bytes,
                       {tokens, header[2]})) {
        LOG_ERR("srv        lookm: %s: positions of its cells do not fit %u tokens\n", path,
                header[2]);
        return 0;
    }
    if (!has_numbers(state, kv_cache::forms(ctx))) {
        LOG_ERR("srv        lookm: %s: a cell holds a value that is not a number\n", path);
        return 0;
    }
    if (llama_state_seq_set_data(ctx, state.data(), state.size(), seq) != state.size()) {
        return 0;
    }
    const hook & h = server_hook();
    if (h.capped() && h.n_used(seq) > h.slot_cells()) { // saved by a server with larger slots
        LOG_ERR("srv        lookm: %s: %d cells do not fit into a slot's %d (--kv-cells)\n", path,
                h.n_used(seq), h.slot_cells());
        llama_memory_seq_rm(llama_get_memory(ctx), seq, -1, -1);
        return 0;
    }
    *n_tokens = header[2];
    load_prefix(path);
    return size;
}

std::string damage_of(const std::string & path) {
    const size_t size = size_of(path);
    std::ifstream file(path, std::ios::binary);
    const checksum sum = read_checksum(file, size);
    return !sum.is_there() || sum_of(file, size - sizeof(sum)) == sum.value
               ? ""
               : "its checksum does not match";
}

} // namespace lookm::server
