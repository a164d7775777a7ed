#include "lookm/server/pictures.h"

#include "lookm/prompt/image_chunks.h"
#include "lookm/server/pruned_pieces.h"
#include "lookm/server/settings.h"

#include "base64.hpp"
#include "mtmd-helper.h"

#include "stb/stb_image.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <limits>
#include <memory>
#include <optional>
#include <stdexcept>

namespace lookm::server {

namespace {

bool has(std::span<const uint8_t> file, size_t at, const char * text) {
    const size_t n = std::strlen(text);
    return file.size() >= at + n && std::memcmp(file.data() + at, text, n) == 0;
}

uint32_t little(std::span<const uint8_t> file, size_t at, int n_bytes) {
    uint32_t value = 0;
    for (int i = n_bytes - 1; i >= 0; --i) {
        value = value << 8 | file[at + static_cast<size_t>(i)];
    }
    return value;
}

// Width and height of a WebP file, which llama-server decodes with ffmpeg: those of its canvas, or
// of its lossless or lossy picture.
std::optional<image_size> size_of_webp(std::span<const uint8_t> file) {
    if (!has(file, 0, "RIFF") || !has(file, 8, "WEBP") || file.size() < 30) {
        return std::nullopt;
    }
    if (has(file, 12, "VP8X")) {
        return image_size{little(file, 24, 3) + 1, little(file, 27, 3) + 1};
    }
    if (has(file, 12, "VP8L")) {
        const uint32_t bits = little(file, 21, 4);
        return image_size{(bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1};
    }
    return image_size{little(file, 26, 2) & 0x3fff, little(file, 28, 2) & 0x3fff};
}

// Width and height of an image that llama-server decodes by itself; nothing for other files.
std::optional<image_size> size_of_decodable(std::span<const uint8_t> file) {
    const auto n_bytes =
        static_cast<int>(std::min<size_t>(file.size(), std::numeric_limits<int>::max()));
    int width = 0, height = 0, n_channels = 0;
    if (stbi_info_from_memory(file.data(), n_bytes, &width, &height, &n_channels) == 0) {
        return std::nullopt;
    }
    return image_size{static_cast<uint32_t>(width), static_cast<uint32_t>(height)};
}

// Whether the file is a JPEG without its end. Segments have lengths. In the scans between them,
// 0xff is followed by zero, a restart or another 0xff; anything else begins the next segment.
bool is_cut_jpeg(std::span<const uint8_t> file) {
    constexpr uint8_t start = 0xd8, end = 0xd9, scan = 0xda;
    if (file.size() < 4 || file[0] != 0xff || file[1] != start || file[2] != 0xff) {
        return false;
    }
    bool in_scan = false;
    for (size_t at = 2; at + 1 < file.size();) {
        const uint8_t mark = file[at + 1];
        const bool marks =
            file[at] == 0xff && mark != 0xff && mark != 0x00 && !(mark >= 0xd0 && mark <= 0xd7);
        if (!marks) {
            ++at;
        } else if (mark == end) {
            return !in_scan;
        } else if (at + 3 < file.size()) {
            in_scan = in_scan || mark == scan;
            at += 2 + (size_t(file[at + 2]) << 8 | file[at + 3]);
        } else {
            break;
        }
    }
    return true;
}

size_t count(const std::string & text, const std::string & part) {
    size_t n = 0;
    for (size_t at = text.find(part); at != std::string::npos;
         at = text.find(part, at + part.size())) {
        ++n;
    }
    return n;
}

// A piece of a late image: as it was prepared earlier, unless it is another one at its place in
// this prompt.
const mtmd_input_chunk * with_pixels(const prepared_image & earlier, const image_chunks & made,
                                     size_t image, size_t piece) {
    const size_t first = image > 0 ? made.ends[image - 1] : 0;
    const bool same = piece < earlier.pieces.size() && saved_bytes(earlier.pieces[piece].get()) ==
                                                           saved_bytes(made.pieces[first + piece]);
    return same ? earlier.pieces[piece].get() : made.late[image]->piece(piece);
}

// The tokens after the last image
std::vector<llama_token> question_of(const image_chunks & made) {
    const size_t n_chunks = mtmd_input_chunks_size(made.outline.get());
    const mtmd_input_chunk * last = mtmd_input_chunks_get(made.outline.get(), n_chunks - 1);
    size_t n = 0;
    const llama_token * tokens = mtmd_input_chunk_get_tokens_text(last, &n);
    return {tokens, tokens + n};
}

} // namespace

prepared_images & prepared() {
    static prepared_images one(static_cast<size_t>(server_settings().image_cache));
    return one;
}

void check_picture(std::span<const uint8_t> file) {
    const int64_t most = server_settings().max_pixels();
    std::optional<image_size> size = size_of_decodable(file);
    if (!size) {
        size = size_of_webp(file);
    }
    if (size && most > 0 && int64_t(size->width) * size->height > most) {
        throw std::invalid_argument("image: " + std::to_string(size->width) + " x " +
                                    std::to_string(size->height) + " pixels, expected at most " +
                                    std::to_string(most) + " (--image-max-pixels)");
    }
    if (server_settings().active() && is_cut_jpeg(file)) {
        throw std::invalid_argument("image: a JPEG that is cut off, expected a complete one");
    }
}

server_tokens process_prompt(mtmd_context * mctx, const std::string & prompt,
                             const std::vector<raw_buffer> & files,
                             const mtmd_helper_init_opt & init_opt, bool is_placeholder) {
    const bool all_images = std::all_of(files.begin(), files.end(), [](const raw_buffer & file) {
        return size_of_decodable(file);
    });
    const pruning how = current_pruning();
    // placeholders are only counted, and pruned ones are fewer
    const bool as_it_is = !how.on() && (is_placeholder || !server_settings().active());
    if (as_it_is || !all_images || count(prompt, mtmd_get_marker(mctx)) != files.size()) {
        return process_mtmd_prompt(mctx, prompt, files, init_opt, is_placeholder);
    }
    for (const raw_buffer & file : files) {
        check_picture(file); // all of them, before the first is decoded
    }
    std::vector<std::shared_ptr<const prepared_image>> earlier;
    std::vector<image_source> sources;
    for (const raw_buffer & file : files) {
        earlier.push_back(prepared().find(file));
        const auto known = [found = earlier.back()] {
            return found ? std::optional(found->known) : std::nullopt;
        };
        const auto load = [&] {
            mtmd::bitmap bitmap(mtmd_helper_bitmap_init_from_buf(mctx, file.data(), file.size(),
                                                                 /*placeholder =*/false, init_opt)
                                    .bitmap);
            if (!bitmap.ptr) {
                throw std::invalid_argument(
                    "Failed to load image or audio file"); // llama-server's own words
            }
            return bitmap;
        };
        sources.emplace_back(load, known);
    }
    image_chunks made = make_image_chunks(mctx, prompt, sources, /*begins =*/true);
    const std::vector<llama_token> question =
        how.asks_question() ? question_of(made) : std::vector<llama_token>();
    server_tokens tokens(llama_tokens(), /*has_mtmd =*/true);
    std::vector<mtmd::input_chunk_ptr> read; // of the image that is next, if it is pruned
    size_t n_pieces = 0, image = 0;
    for (size_t i = 0; i < mtmd_input_chunks_size(made.outline.get()); ++i) {
        const mtmd_input_chunk * chunk = mtmd_input_chunks_get(made.outline.get(), i);
        if (mtmd_input_chunk_get_type(chunk) == MTMD_INPUT_CHUNK_TYPE_TEXT) {
            tokens.push_back(chunk);
            continue;
        }
        const size_t first = image > 0 ? made.ends[image - 1] : 0;
        const auto whole = [&](size_t piece) {
            return made.late[image] ? with_pixels(*earlier[image], made, image, piece)
                                    : made.pieces[first + piece];
        };
        if (how.on() && n_pieces == first) {
            std::vector<const mtmd_input_chunk *> pieces;
            for (size_t piece = 0; piece < made.ends[image] - first; ++piece) {
                pieces.push_back(whole(piece));
            }
            read = pruned().prune(pieces, how, question);
        }
        const size_t piece = n_pieces - first;
        const bool is_pruned = piece < read.size() && read[piece];
        tokens.push_back(is_pruned ? read[piece].get() : whole(piece)); // a copy
        ++n_pieces;
        for (; image < made.ends.size() && made.ends[image] == n_pieces; ++image) {
            read.clear();
            if (!made.late[image]) {
                const std::span all(made.pieces);
                prepared().keep(files[image],
                                {mtmd_input_chunk_get_id(all[first]), made.sizes[image]},
                                all.subspan(first, n_pieces - first));
                made.images[image].reset();
            }
        }
    }
    return tokens;
}

std::vector<server_tokens> tokenize_prompts(const llama_vocab * vocab, mtmd_context * mctx,
                                            const json & prompts, bool add_special,
                                            bool parse_special,
                                            const mtmd_helper_init_opt & init_opt) {
    const auto with_images = [&](const json & prompt) {
        return mctx && prompt.is_object() && prompt.contains("multimodal_data") &&
               prompt.contains("prompt_string");
    };
    const auto tokenize = [&](const json & prompt) {
        if (!with_images(prompt)) {
            return tokenize_input_subprompt(vocab, mctx, prompt, add_special, parse_special,
                                            init_opt);
        }
        std::vector<raw_buffer> files;
        try {
            for (const json & file : prompt.at("multimodal_data")) {
                const std::string bytes = base64::decode(file.get<std::string>());
                files.emplace_back(bytes.begin(), bytes.end());
            }
        } catch (const base64_error &) { // llama-server says what is wrong
            return tokenize_input_subprompt(vocab, mctx, prompt, add_special, parse_special,
                                            init_opt);
        }
        return process_prompt(mctx, prompt.at("prompt_string").get<std::string>(), files, init_opt);
    };
    std::vector<server_tokens> all;
    if (!prompts.is_array()) {
        all.push_back(tokenize(prompts));
    } else if (std::any_of(prompts.begin(), prompts.end(), with_images)) {
        std::transform(prompts.begin(), prompts.end(), std::back_inserter(all), tokenize);
    } else { // prompts of text, or one of tokens
        return tokenize_input_prompts(vocab, mctx, prompts, add_special, parse_special, init_opt);
    }
    return all;
}

} // namespace lookm::server

// llama-server's server-common.cpp calls this instead of mtmd's function (CMakeLists.txt).
extern "C" mtmd_helper_bitmap_wrapper lookm_checked_bitmap(const mtmd_context * ctx,
                                                           const unsigned char * buf, size_t len,
                                                           bool placeholder,
                                                           mtmd_helper_init_opt opt) {
    lookm::server::check_picture({buf, len});
    return mtmd_helper_bitmap_init_from_buf(ctx, buf, len, placeholder, opt);
}
