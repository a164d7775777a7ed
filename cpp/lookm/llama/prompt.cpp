#include "lookm/llama/prompt.h"

#include "lookm/llama/log.h"

#include "chat.h"
#include "common.h"
#include "json.h"

#include <cstdio>
#include <numeric>
#include <random>
#include <stdexcept>

namespace lookm {

namespace {

size_t count(const std::string & text, const std::string & part) {
    size_t n = 0;
    for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) {
        ++n;
    }
    return n;
}

std::vector<mtmd::bitmap> make_bitmaps(std::span<const image_view> images) {
    std::vector<mtmd::bitmap> bitmaps;
    for (const image_view & image : images) {
        bitmaps.emplace_back(image.width, image.height, image.data);
    }
    return bitmaps;
}

} // namespace

void chat_template::deleter::operator()(common_chat_templates * t) const {
    common_chat_templates_free(t);
}

chat_template::chat_template(const llama_model * model) {
    try {
        templates_.reset(common_chat_templates_init(model, "").release());
    } catch (const std::exception & e) {
        throw std::invalid_argument(std::string("model_path: its chat template cannot be read: ") + e.what());
    }
}

chat_template::~chat_template() = default;

std::string chat_template::apply(const std::string & messages) const {
    try {
        common_chat_templates_inputs inputs;
        inputs.messages = common_chat_msgs_parse_oaicompat(common_json::parse(messages));
        return common_chat_templates_apply(templates_.get(), inputs).prompt;
    } catch (const std::exception & e) {
        throw std::invalid_argument(std::string("messages: the chat template refuses them: ") + e.what());
    }
}

int32_t prompt_chunk::n_cells() const {
    return static_cast<int32_t>(image ? mtmd_input_chunk_get_n_tokens(image) : tokens.size());
}

int32_t prompt::n_cells() const {
    return std::accumulate(chunks.begin(), chunks.end(), 0,
                           [](int32_t n, const prompt_chunk & c) { return n + c.n_cells(); });
}

int32_t prompt::n_images() const {
    return static_cast<int32_t>(std::count_if(chunks.begin(), chunks.end(), [](const auto & c) { return c.image; }));
}

prompt tokenize(const llama_model * model, const mtmd_context * mmproj, const std::string & text,
                const std::string & marker, std::span<const image_view> images) {
    const size_t n_markers = count(text, marker);
    if (n_markers != images.size()) {
        throw std::invalid_argument("images: " + std::to_string(images.size()) + " given, but the prompt has " +
                                    std::to_string(n_markers) + " image placeholders");
    }
    prompt p;
    if (!mmproj) {
        if (!images.empty()) {
            throw std::invalid_argument("images: " + std::to_string(images.size()) +
                                        " given, but the model was opened without an mmproj file");
        }
        p.chunks.push_back({common_tokenize(llama_model_get_vocab(model), text, true, true)});
        return p;
    }
    const std::vector<mtmd::bitmap> bitmaps = make_bitmaps(images);
    std::vector<const mtmd_bitmap *> pointers;
    for (const mtmd::bitmap & b : bitmaps) {
        pointers.push_back(b.ptr.get());
    }
    const mtmd_input_text input = {text.data(), text.size(), /*add_special =*/true, /*parse_special =*/true};
    p.media.reset(mtmd_input_chunks_init());
    forget_errors();
    if (mtmd_tokenize(mmproj, p.media.get(), &input, pointers.data(), pointers.size()) != 0) {
        throw std::invalid_argument("images: the image encoder refuses them: " + last_logged_error());
    }
    for (size_t i = 0; i < mtmd_input_chunks_size(p.media.get()); ++i) {
        const mtmd_input_chunk * chunk = mtmd_input_chunks_get(p.media.get(), i);
        if (mtmd_input_chunk_get_type(chunk) == MTMD_INPUT_CHUNK_TYPE_TEXT) {
            size_t n = 0;
            const llama_token * tokens = mtmd_input_chunk_get_tokens_text(chunk, &n);
            p.chunks.push_back({{tokens, tokens + n}});
        } else {
            p.chunks.push_back({{}, chunk});
        }
    }
    return p;
}

std::string random_marker() {
    std::random_device device;
    char text[48];
    std::snprintf(text, sizeof(text), "<__image_%08x%08x__>", device(), device());
    return text;
}

} // namespace lookm
