#include "lookm/server/full_prefixes.h"

#include "lookm/cache/kv_cache.h"
#include "lookm/cache/sequence_numbers.h"
#include "lookm/core/state_bytes.h"
#include "lookm/host/memory_room.h"
#include "lookm/model/model.h"

#include "llama.h"
#include "log.h"

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <utility>

namespace lookm::server {

namespace {

constexpr uint32_t state_version = 3;

// What must be the same for cells to mean the same.
std::vector<int32_t> numbers_of(const std::vector<cache_form> & forms) {
    std::vector<int32_t> out;
    for (const cache_form & f : forms) {
        out.insert(out.end(),
                   {f.type_k, f.type_v, f.v_transposed, f.rotation_k, f.rotation_v, f.cell_bytes});
    }
    return out;
}

int32_t size_of(const full_prefix & p) {
    return static_cast<int32_t>(p.tokens.size());
}

} // namespace

int32_t end_of_last_image(const server_tokens & tokens, int32_t n) {
    int32_t end = 0;
    for (int32_t i = 0; tokens.has_mtmd && i < n;) {
        if (tokens[i] != LLAMA_TOKEN_NULL) {
            ++i;
            continue;
        }
        i += static_cast<int32_t>(mtmd_input_chunk_get_n_tokens(tokens.find_chunk(i).get()));
        end = i <= n ? i : end;
    }
    return end;
}

server_tokens first_of(const server_tokens & tokens, int32_t n) {
    server_tokens out;
    out.has_mtmd = tokens.has_mtmd;
    while (static_cast<int32_t>(out.size()) < n) {
        if (const llama_token token = tokens[out.size()]; token != LLAMA_TOKEN_NULL) {
            out.push_back(token);
        } else {
            out.push_back_placeholder(tokens.find_chunk(out.size()).get());
        }
    }
    return out;
}

int32_t full_prefixes::last_end(const server_tokens & tokens, int32_t n) const {
    const int32_t start = end_of_last_image(tokens, n);
    if (only_whole_) {
        return start;
    }
    int32_t end = start; // of the text after it
    while (end < n && tokens[end] != LLAMA_TOKEN_NULL) {
        ++end;
    }
    return end - (end - start) % text_step_;
}

full_prefixes::match full_prefixes::find(const server_tokens & prompt, const std::string & adapters,
                                         int32_t n_most) {
    match best;
    for (const std::shared_ptr<const full_prefix> & kept : kept_) {
        if (kept->adapters != adapters) {
            continue;
        }
        const auto n_common = static_cast<int32_t>(kept->tokens.get_common_prefix(prompt));
        const int32_t n = last_end(prompt, std::min(n_common, n_most));
        const bool whole = n == size_of(*kept);
        if (n > best.n_tokens && (whole || !only_whole_)) {
            best = {kept, n};
        }
    }
    if (best.from) {
        kept_.use(best.from);
    }
    return best;
}

void full_prefixes::attach(llama_context * ctx, const std::string & type, bool sums) {
    kept_ = byte_budget<full_prefix>(kept_.most());
    ctx_ = ctx;
    sums_ = sums;
    only_whole_ = sums || kv_cache::memory_type(ctx) != "kv_cache";
    const auto n_batch = static_cast<int32_t>(llama_n_batch(ctx));
    const auto n_ubatch = static_cast<int32_t>(llama_n_ubatch(ctx));
    text_step_ = n_batch % n_ubatch == 0 ? n_ubatch : n_batch;
    std::optional<ggml_type> asked;
    if (!type.empty()) {
        asked = parse_cache_type("kv_prefix_type", type);
        kv_cache::check_types(llama_get_model(ctx), *asked, *asked, "kv_prefix_type",
                              "kv_prefix_type");
    }
    rest_ = {kv_cache::forms(ctx), asked, llama_n_threads(ctx)};
}

bool full_prefixes::restore(llama_seq_id seq, const full_prefix & from) const {
    std::vector<uint8_t> storage;
    const std::span<const uint8_t> cells = rest_.take(from.cells, storage);
    return llama_state_seq_set_data_ext(ctx_, cells.data(), cells.size(), seq,
                                        LLAMA_STATE_SEQ_FLAGS_NONE) == cells.size() &&
           // cells of an image have lower positions than its end with M-RoPE
           llama_memory_seq_pos_max(llama_get_memory(ctx_), seq) < from.tokens.pos_next();
}

std::vector<uint8_t> full_prefixes::saved(const server_tokens & tokens) {
    const int32_t end = end_of_last_image(tokens, static_cast<int32_t>(tokens.size()));
    const auto found = std::find_if(kept_.begin(), kept_.end(), [&](const auto & kept) {
        // what goes on in another way holds what other requests brought
        return size_of(*kept) >= end &&
               kept->tokens.get_common_prefix(tokens) == kept->tokens.size();
    });
    if (found == kept_.end()) {
        return {};
    }
    const full_prefix & from = **found;
    state_writer w;
    w.put(state_version);
    w.put(numbers_of(rest_.forms()));
    w.put(from.tokens.serialize());
    w.put(std::vector<char>(from.adapters.begin(), from.adapters.end()));
    w.put(from.cells);
    from.sums.put(w);
    return std::move(w.out);
}

void full_prefixes::take(std::span<const uint8_t> saved, compressor & c) {
    state_reader r(saved);
    if (r.get<uint32_t>() != state_version || r.get_all<int32_t>() != numbers_of(rest_.forms())) {
        throw std::invalid_argument("it was saved by a server with other cache types");
    }
    const std::vector<char> packed = r.get_all<char>();
    llama_tokens words(packed.size() / sizeof(llama_token));
    std::copy_n(packed.data(), words.size() * sizeof(llama_token),
                reinterpret_cast<char *>(words.data()));
    const std::vector<char> adapters = r.get_all<char>();
    full_prefix made = {server_tokens::deserialize(words, /*has_mtmd =*/true),
                        {adapters.begin(), adapters.end()},
                        r.get_all<uint8_t>(),
                        sequence_sums::get(r)};
    if (!r.empty() || !made.tokens.validate(ctx_) || !holds_numbers(made.cells, rest_.forms()) ||
        made.sums.empty() == sums_ || !made.sums.fit(c, size_of(made))) {
        state_reader::fail();
    }
    kept_.add(std::make_shared<const full_prefix>(std::move(made)));
}

void full_prefixes::keep(llama_seq_id seq, const server_tokens & tokens,
                         const std::string & adapters, sequence_sums sums) {
    const size_t size = llama_state_seq_get_size_ext(ctx_, seq, LLAMA_STATE_SEQ_FLAGS_NONE);
    if (!rest_.converts() && !kept_.fits(size + tokens.size() * sizeof(llama_token))) {
        return;
    }
    if (!has_room(size)) {
        LOG_WRN("slot       prefix: id %2d | %zu bytes of the full prompt are not kept: too little "
                "memory is left\n",
                seq, size);
        return;
    }
    full_prefix made = {tokens.clone(), adapters, std::vector<uint8_t>(size), std::move(sums)};
    llama_state_seq_get_data_ext(ctx_, made.cells.data(), size, seq, LLAMA_STATE_SEQ_FLAGS_NONE);
    if (rest_.converts()) {
        made.cells = rest_.put(std::move(made.cells));
        made.cells.shrink_to_fit();
    }
    // what the new one begins with need not be kept twice
    kept_.drop_if([&](const full_prefix & old) {
        const bool begins =
            old.adapters == adapters && old.tokens.get_common_prefix(tokens) == old.tokens.size();
        return begins && (!only_whole_ || old.tokens.size() == tokens.size());
    });
    kept_.add(std::make_shared<const full_prefix>(std::move(made)));
}

} // namespace lookm::server
