#include "lookm/files/file_doubts.h"

#include "lookm/files/doubt_list.h"

#include <algorithm>
#include <sstream>

namespace lookm {

namespace {

constexpr size_t most_doubts = 4; // later ones are mostly consequences of the first

std::string shown(float x) {
    std::ostringstream text;
    text << x;
    return text.str();
}

} // namespace

std::string quoted(const std::string & text) {
    constexpr size_t most_bytes = 40;
    std::string all(1, '"');
    return all.append(text, 0, most_bytes).append(1, '"');
}

bool doubt_list::names(const std::string & name) const {
    return std::find(names_.begin(), names_.end(), name) != names_.end();
}

void doubt_list::add(const std::string & name, const std::string & is,
                     const std::string & expected) {
    if (list_.size() < most_doubts && !names(name)) {
        names_.push_back(name);
        list_.push_back(name + " is " + is + ", expected " + expected);
    }
}

void doubt_list::check_type(const std::string & key, gguf_type type) {
    if (file.has(key) && file.type(key) != type) {
        add(key, "of type " + file.type_name(key), gguf_type_name(type));
    }
}

void doubt_list::check_count(const std::string & key, uint32_t most) {
    const std::optional<uint32_t> n = file.u32(key);
    if (n && (*n == 0 || *n > most)) {
        add(key, std::to_string(*n), "1 to " + std::to_string(most));
    }
}

void doubt_list::check_epsilon(const std::string & key) {
    check_type(key, GGUF_TYPE_FLOAT32);
    const std::optional<float> epsilon = file.f32(key);
    if (epsilon && !(*epsilon > 0.0f && *epsilon < 0.1f)) {
        add(key, shown(*epsilon), "more than 0 and less than 0.1");
    }
}

void doubt_list::check_equal(const std::string & key, int64_t right, const std::string & reason) {
    const std::optional<uint32_t> n = file.u32(key);
    if (n && *n != right) {
        add(key, std::to_string(*n), std::to_string(right) + ", " + reason);
    }
}

void doubt_list::check_heads(const std::string & width, const std::string & heads,
                             const std::string & head_length) {
    const std::optional<uint32_t> n = file.u32(width);
    const std::optional<uint32_t> n_heads = file.u32(heads);
    if (n && n_heads && *n_heads > 0 && *n % *n_heads != 0 && !file.has(head_length) &&
        !names(width)) {
        add(heads, std::to_string(*n_heads), "a divisor of " + width + ", " + std::to_string(*n));
    }
}

std::vector<std::string> doubts_of(const std::vector<std::string> & parts) {
    const gguf_header file(parts);
    doubt_list doubts(file);
    if (file.text("general.architecture") == "clip") {
        doubt_projector(doubts);
    } else {
        doubt_model(doubts);
        doubt_tokenizer(doubts);
    }
    doubt_tensors(doubts);
    return doubts.get();
}

} // namespace lookm
