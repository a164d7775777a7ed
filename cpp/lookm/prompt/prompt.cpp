#include "lookm/prompt/prompt.h"

#include "lookm/core/bad_argument.h"
#include "lookm/prompt/text_run.h"

#include <algorithm>
#include <cstdio>
#include <limits>
#include <numeric>
#include <random>
#include <stdexcept>

namespace lookm {

namespace {

size_t count(const std::string & text, const std::string & part) {
    size_t n = 0;
    for (size_t at = text.find(part); at != std::string::npos;
         at = text.find(part, at + part.size())) {
        ++n;
    }
    return n;
}

void check_markers(const char * argument, const char * what, size_t n_given, size_t n_markers) {
    if (n_markers != n_given) {
        throw bad_argument(argument, std::to_string(n_given) + " given, but the prompt has " +
                                         std::to_string(n_markers) + " " + what + " placeholders");
    }
}

// Tokenizes each run of text between two image markers; empty runs are left out.
std::vector<text_run> tokenize_runs(const llama_model * model, const std::string & text,
                                    const prompt_markers & markers,
                                    std::span<const std::string> contexts) {
    std::vector<text_run> runs;
    for (size_t start = 0; start <= text.size();) {
        const size_t end = std::min(text.find(markers.image, start), text.size());
        const std::string part = text.substr(start, end - start);
        const size_t n = count(part, markers.context);
        if (!part.empty()) {
            runs.push_back(tokenize_run(model, part, markers.context, contexts.first(n)));
        }
        contexts = contexts.subspan(n);
        start = end + markers.image.size();
    }
    return runs;
}

prompt_chunk chunk_of(text_run run) {
    return {std::move(run.tokens), std::move(run.kind)};
}

// The prompt if there are no images, so that there is at most one run.
prompt text_prompt(const llama_model * model, std::vector<text_run> runs, bool begins) {
    const llama_vocab * vocab = llama_model_get_vocab(model);
    text_run run = runs.empty() ? text_run() : std::move(runs.front());
    if (begins && llama_vocab_get_add_bos(vocab)) {
        run.tokens.insert(run.tokens.begin(), llama_vocab_bos(vocab));
        run.kind.insert(run.kind.begin(), token_kind::text);
    }
    if (llama_vocab_get_add_eos(vocab)) {
        run.tokens.push_back(llama_vocab_eos(vocab));
        run.kind.push_back(token_kind::text);
    }
    prompt p;
    p.chunks.push_back(chunk_of(std::move(run)));
    return p;
}

// A text for mtmd in which a marker stands for each run of text. mtmd adds tokens around images and
// does not say which those are, so it never gets the real text: put_in() later replaces the tokens
// of each stand-in by those of the run.
std::string with_stand_ins(const std::string & text, const prompt_markers & markers) {
    std::string out;
    for (size_t start = 0; start <= text.size();) {
        const size_t end = std::min(text.find(markers.image, start), text.size());
        out += end > start ? markers.context : "";
        out += end < text.size() ? markers.image : "";
        start = end + markers.image.size();
    }
    return out;
}

// The tokens of a chunk of mtmd, with the stand-in replaced by the next run. A chunk has at most
// one, as images separate runs.
text_run put_in(std::span<const llama_token> tokens, std::span<const llama_token> stand_in,
                std::span<text_run> & runs) {
    text_run out = {{tokens.begin(), tokens.end()},
                    std::vector<token_kind>(tokens.size(), token_kind::text)};
    const auto at = std::search(tokens.begin(), tokens.end(), stand_in.begin(), stand_in.end()) -
                    tokens.begin();
    if (at == std::ssize(tokens) || runs.empty()) {
        return out;
    }
    const auto n = std::ssize(stand_in);
    out.tokens.erase(out.tokens.begin() + at, out.tokens.begin() + at + n);
    out.tokens.insert(out.tokens.begin() + at, runs.front().tokens.begin(),
                      runs.front().tokens.end());
    out.kind.erase(out.kind.begin() + at, out.kind.begin() + at + n);
    out.kind.insert(out.kind.begin() + at, runs.front().kind.begin(), runs.front().kind.end());
    runs = runs.subspan(1);
    return out;
}

std::vector<char> key_of(const mtmd_input_chunk * image, const prompt_chunk & chunk) {
    if (mtmd_input_chunk_get_id(image)[0] == '\0') {
        return {};
    }
    std::vector<char> key = saved_bytes(image); // the same for all tiles of an image
    for (const int32_t n : {chunk.tile, chunk.n_tiles}) {
        const auto * bytes = reinterpret_cast<const char *>(&n);
        key.insert(key.end(), bytes, bytes + sizeof(n));
    }
    return key;
}

} // namespace

std::vector<char> prompt_chunk::image_key() const {
    return key_of(image, *this);
}

std::vector<char> prompt_chunk::encoded_key() const {
    return key_of(encoded(), *this);
}

int32_t prompt_chunk::n_encoded() const {
    return static_cast<int32_t>(image ? mtmd_input_chunk_get_n_tokens(encoded()) : 0);
}

int32_t prompt_chunk::n_cells() const {
    return static_cast<int32_t>(image ? mtmd_input_chunk_get_n_tokens(image) : tokens.size());
}

int32_t prompt_chunk::n_context() const {
    return static_cast<int32_t>(std::count(kind.begin(), kind.end(), token_kind::image));
}

int32_t prompt::n_context() const {
    return std::accumulate(chunks.begin(), chunks.end(), 0,
                           [](int32_t n, const prompt_chunk & c) { return n + c.n_context(); });
}

std::vector<token_kind> prompt::kinds() const {
    std::vector<token_kind> out;
    for (const prompt_chunk & c : chunks) {
        out.insert(out.end(), c.kind.begin(), c.kind.end());
        out.insert(out.end(), c.image ? c.n_cells() : 0, token_kind::image);
    }
    return out;
}

std::vector<prompt_piece> prompt::pieces() const {
    std::vector<prompt_piece> out;
    for (size_t i = 0; i < chunks.size(); ++i) {
        const std::vector<token_kind> & kind = chunks[i].kind;
        int32_t first = 0;
        for (int32_t c = 1; c < std::ssize(kind); ++c) {
            if (kind[c - 1] == token_kind::image && kind[c] == token_kind::text) {
                out.push_back({i, first, c - first});
                first = c;
            }
        }
        out.push_back({i, first, chunks[i].n_cells() - first});
    }
    return out;
}

bool prompt::is_evictable(const prompt_piece & piece) const {
    const prompt_chunk & chunk = chunks[piece.chunk];
    const auto kind = chunk.kind.begin() + piece.first;
    return chunk.image || std::find(kind, kind + piece.n, token_kind::image) != kind + piece.n;
}

size_t prompt::n_pieces_before_question() const {
    const std::vector<prompt_piece> all = pieces();
    const auto last = std::find_if(all.rbegin(), all.rend(),
                                   [&](const prompt_piece & piece) { return is_evictable(piece); });
    return all.rend() - last;
}

int32_t prompt::n_cells() const {
    return std::accumulate(chunks.begin(), chunks.end(), 0,
                           [](int32_t n, const prompt_chunk & c) { return n + c.n_cells(); });
}

int32_t prompt::n_tiles() const {
    return static_cast<int32_t>(
        std::count_if(chunks.begin(), chunks.end(), [](const auto & c) { return c.image; }));
}

prompt tokenize(const llama_model * model, const mtmd_context * mmproj, const std::string & text,
                const prompt_markers & markers, std::span<const image_source> images,
                std::span<const std::string> contexts, bool begins) {
    check_markers("images", "image", images.size(), count(text, markers.image));
    check_markers("contexts", "context", contexts.size(), count(text, markers.context));
    for (const std::string & part : contexts) {
        if (part.size() > std::numeric_limits<int32_t>::max() / 2) {
            throw bad_argument("contexts", std::to_string(part.size()) + " bytes exceed 1 GiB");
        }
    }
    if (!mmproj && !images.empty()) {
        throw bad_argument("images", std::to_string(images.size()) +
                                         " given, but the model was opened without an mmproj file");
    }
    std::vector<text_run> runs = tokenize_runs(model, text, markers, contexts);
    if (!mmproj) {
        return text_prompt(model, std::move(runs), begins);
    }
    prompt p;
    p.n_images = static_cast<int32_t>(images.size());
    const std::vector<llama_token> stand_in =
        tokenize_run(model, markers.context, markers.image, {}).tokens;
    p.media = make_image_chunks(mmproj, with_stand_ins(text, markers), images, begins);
    const image_chunks & media = p.media;
    auto piece = media.pieces.begin();
    std::span<text_run> left = runs;
    for (size_t i = 0; i < mtmd_input_chunks_size(media.outline.get()); ++i) {
        const mtmd_input_chunk * chunk = mtmd_input_chunks_get(media.outline.get(), i);
        if (mtmd_input_chunk_get_type(chunk) == MTMD_INPUT_CHUNK_TYPE_TEXT) {
            size_t n = 0;
            const llama_token * tokens = mtmd_input_chunk_get_tokens_text(chunk, &n);
            if (std::find(tokens, tokens + n, LLAMA_TOKEN_NULL) != tokens + n) {
                throw bad_argument(
                    "mmproj",
                    "it puts tokens around images that are not in the model's vocabulary; "
                    "expected the multimodal projector made for this model");
            }
            p.chunks.push_back(chunk_of(put_in({tokens, n}, stand_in, left)));
        } else {
            const auto k = static_cast<size_t>(piece - media.pieces.begin());
            const auto end = std::upper_bound(media.ends.begin(), media.ends.end(), k);
            const size_t first = end == media.ends.begin() ? 0 : *std::prev(end);
            p.chunks.push_back({{},
                                {},
                                *piece++,
                                static_cast<int32_t>(k - first),
                                static_cast<int32_t>(*end - first),
                                media.late[end - media.ends.begin()].get()});
        }
    }
    if (!left.empty()) {
        throw std::runtime_error("mtmd lost " + std::to_string(left.size()) +
                                 " parts of the prompt's text");
    }
    return p;
}

prompt_markers random_markers() {
    std::random_device device;
    char name[24];
    std::snprintf(name, sizeof(name), "%08x%08x", device(), device());
    return {std::string("<__image_") + name + "__>", std::string("<__context_") + name + "__>"};
}

} // namespace lookm
