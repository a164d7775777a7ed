#include "lookm/prompt/image_chunks.h"

#include "lookm/core/bad_argument.h"
#include "lookm/host/log.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace lookm {

namespace {

mtmd::bitmap blank(const image_size & size, const std::string & id) {
    mtmd::bitmap made(size.width, size.height, nullptr);
    made.set_id(id.c_str());
    return made;
}

mtmd::bitmap blank(const mtmd::bitmap & other) {
    return blank({other.nx(), other.ny()}, other.id());
}

mtmd::input_chunks_ptr tokenize_media(const mtmd_context * mmproj, const std::string & text,
                                      std::span<const mtmd::bitmap> bitmaps, bool begins) {
    std::vector<const mtmd_bitmap *> pointers;
    for (const mtmd::bitmap & b : bitmaps) {
        pointers.push_back(b.ptr.get());
    }
    const mtmd_input_text input = {text.data(), text.size(), /*add_special =*/begins,
                                   /*parse_special =*/true};
    mtmd::input_chunks_ptr chunks(mtmd_input_chunks_init());
    forget_errors();
    if (mtmd_tokenize(mmproj, chunks.get(), &input, pointers.data(), pointers.size()) != 0) {
        throw bad_argument("images", "the image encoder rejects them: " + last_logged_error());
    }
    return chunks;
}

std::vector<const mtmd_input_chunk *> pieces_of(const mtmd::input_chunks_ptr & chunks) {
    std::vector<const mtmd_input_chunk *> pieces;
    for (size_t i = 0; i < mtmd_input_chunks_size(chunks.get()); ++i) {
        const mtmd_input_chunk * chunk = mtmd_input_chunks_get(chunks.get(), i);
        if (mtmd_input_chunk_get_type(chunk) == MTMD_INPUT_CHUNK_TYPE_IMAGE) {
            pieces.push_back(chunk);
        }
    }
    return pieces;
}

bool same(std::span<const mtmd_input_chunk * const> a,
          std::span<const mtmd_input_chunk * const> b) {
    for (size_t i = 0; i < a.size() && i < b.size(); ++i) {
        if (saved_bytes(a[i]) != saved_bytes(b[i])) {
            return false;
        }
    }
    return a.size() == b.size();
}

// The text up to and including its marker number i, counted from 0.
std::string up_to(const std::string & text, const std::string & marker, size_t i) {
    size_t at = text.find(marker);
    for (; i > 0; --i) {
        at = text.find(marker, at + marker.size());
    }
    return text.substr(0, at + marker.size());
}

} // namespace

std::vector<char> saved_bytes(const mtmd_input_chunk * chunk) {
    size_t n = 0;
    std::vector<char> bytes;
    if (mtmd_input_chunk_save(chunk, nullptr, 0, &n) == 0) {
        bytes.resize(n);
        if (mtmd_input_chunk_save(chunk, bytes.data(), n, &n) != 0) {
            bytes.clear();
        }
    }
    return bytes;
}

const mtmd_input_chunk * late_image::piece(size_t i) {
    if (!chunks_) {
        chunks_ = prepare_();
    }
    return pieces_of(chunks_).at(i);
}

image_chunks make_image_chunks(const mtmd_context * mmproj, const std::string & text,
                               std::span<const image_source> images, bool begins) {
    const std::string marker = mtmd_get_marker(mmproj);
    image_chunks out;
    std::vector<mtmd::bitmap> blanks;
    for (const image_source & source : images) {
        const std::optional<known_image> known = source.known ? source.known() : std::nullopt;
        mtmd::bitmap bitmap = known ? blank(known->size, known->id) : source.load();
        out.sizes.push_back({bitmap.nx(), bitmap.ny()});
        out.images.push_back(tokenize_media(mmproj, marker, {&bitmap, 1}, /*begins =*/false));
        blanks.push_back(blank(bitmap));
        out.late.push_back(nullptr);
        if (known) {
            const auto prepare = [mmproj, marker, load = source.load, id = known->id] {
                const mtmd::bitmap loaded = load();
                if (loaded.id() != id) {
                    throw bad_argument("images", "one of them changed while it was used");
                }
                return tokenize_media(mmproj, marker, {&loaded, 1}, /*begins =*/false);
            };
            out.late.back() = std::make_unique<late_image>(prepare);
        }
    }
    out.outline = tokenize_media(mmproj, text, blanks, begins);
    const std::vector<const mtmd_input_chunk *> outline = pieces_of(out.outline);
    for (size_t i = 0; i < images.size(); ++i) {
        std::vector<const mtmd_input_chunk *> pieces = pieces_of(out.images[i]);
        const size_t first = out.pieces.size();
        const auto expected = std::span(outline).subspan(std::min(first, outline.size()));
        const auto n = std::min(pieces.size(), expected.size());
        if (!same(pieces, expected.first(n))) {
            // pieces depend on the image's place in the prompt: prepare it again in its place
            pieces.clear();
            out.images[i].reset();
            out.late[i].reset();
            std::vector<mtmd::bitmap> before;
            for (size_t k = 0; k < i; ++k) {
                before.push_back(blank(blanks[k]));
            }
            before.push_back(images[i].load());
            out.images[i] = tokenize_media(mmproj, up_to(text, marker, i), before, begins);
            const std::vector<const mtmd_input_chunk *> all = pieces_of(out.images[i]);
            pieces.assign(all.begin() + static_cast<int64_t>(std::min(first, all.size())),
                          all.end());
            if (!same(pieces, expected.first(std::min(pieces.size(), expected.size())))) {
                throw std::runtime_error("images: mtmd cut image " + std::to_string(i + 1) +
                                         " differently the second time");
            }
        } else if (out.late[i]) {
            pieces.assign(expected.begin(), expected.begin() + static_cast<int64_t>(n));
            out.images[i].reset();
        }
        out.pieces.insert(out.pieces.end(), pieces.begin(), pieces.end());
        out.ends.push_back(out.pieces.size());
    }
    if (out.pieces.size() != outline.size()) {
        throw std::runtime_error("images: mtmd cut them differently the second time");
    }
    return out;
}

} // namespace lookm
