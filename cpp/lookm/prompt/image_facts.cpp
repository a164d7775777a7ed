#include "lookm/prompt/image_facts.h"

#include "lookm/host/log.h"
#include "lookm/prompt/saved_chunk.h"

#include "gguf.h"

#include <cstdio>
#include <memory>
#include <stdexcept>

namespace lookm {

namespace {

// Reads the log line "...: preproc_out has 4 entries, grid_x = 2, grid_y = 2, has_overview = 1"
void read_cut(const std::vector<std::string> & lines, image_facts & facts) {
    for (const std::string & line : lines) {
        const size_t at = line.find("preproc_out has ");
        int n = 0, columns = 0, rows = 0, whole = 0;
        if (at != std::string::npos &&
            std::sscanf(line.c_str() + at,
                        "preproc_out has %d entries, grid_x = %d, grid_y = %d, has_overview = %d",
                        &n, &columns, &rows, &whole) == 4) {
            facts.has_whole = whole != 0;
            facts.columns = columns;
            facts.rows = rows;
        }
    }
}

} // namespace

projector_facts read_projector(const std::string & mmproj_path) {
    const std::unique_ptr<gguf_context, decltype(&gguf_free)> gguf(
        gguf_init_from_file(mmproj_path.c_str(), {/*no_alloc =*/true, nullptr}), gguf_free);
    if (!gguf) {
        throw std::runtime_error("mmproj: \"" + mmproj_path +
                                 "\" can no longer be read: " + last_logged_error());
    }
    projector_facts facts;
    for (const char * key : {"clip.vision.projector_type", "clip.projector_type"}) {
        const int64_t id = gguf_find_key(gguf.get(), key);
        if (facts.name.empty() && id >= 0 && gguf_get_kv_type(gguf.get(), id) == GGUF_TYPE_STRING) {
            facts.name = gguf_get_val_str(gguf.get(), id);
        }
    }
    facts.has_row_breaks = gguf_find_tensor(gguf.get(), "v.token_embd.img_break") >= 0;
    const bool clip = facts.name == "mlp" || facts.name == "ldp" || facts.name == "ldpv2";
    facts.one_patch_on = clip && gguf_find_tensor(gguf.get(), "v.class_embd") >= 0;
    facts.whole_first = facts.name == "resampler" || facts.name == "minicpmv4_6";
    facts.stretches_tiles = facts.name == "idefics3" &&
                            gguf_find_key(gguf.get(), "clip.vision.preproc_image_size") >= 0;
    return facts;
}

image_facts read_image_facts(const mtmd_context * mmproj, const std::string & marker,
                             const image_size & image) {
    const mtmd::bitmap blank(mtmd_bitmap_init(image.width, image.height, nullptr));
    const mtmd_bitmap * bitmap = blank.ptr.get();
    const mtmd_input_text input = {marker.data(), marker.size(), /*add_special =*/false,
                                   /*parse_special =*/true};
    const mtmd::input_chunks_ptr chunks(mtmd_input_chunks_init());
    const log_lines lines;
    forget_errors();
    if (mtmd_tokenize(mmproj, chunks.get(), &input, &bitmap, 1) != 0) {
        throw std::runtime_error("images: mtmd rejects a blank image of " +
                                 std::to_string(image.width) + " x " +
                                 std::to_string(image.height) + " pixels: " + last_logged_error());
    }
    image_facts facts;
    for (size_t i = 0; i < mtmd_input_chunks_size(chunks.get()); ++i) {
        const mtmd_input_chunk * chunk = mtmd_input_chunks_get(chunks.get(), i);
        if (mtmd_input_chunk_get_type(chunk) == MTMD_INPUT_CHUNK_TYPE_IMAGE) {
            const auto [width, height] = saved_chunk(chunk).pixels();
            facts.pieces.push_back(
                {width, height, static_cast<int32_t>(mtmd_input_chunk_get_n_tokens(chunk))});
        }
    }
    read_cut(lines.get(), facts);
    return facts;
}

} // namespace lookm
