#pragma once

// Limits for chat templates. They come with model files, and llama.cpp runs them without limits: a
// macro that calls itself or 20,000 brackets overflow the stack, and a loop can run for hours.
// Here, every value that a template makes or examines is a step, and there are limits
// (jinja_limits.cpp) for steps, text and stack. llama_cpp.cmake renames these functions of
// llama.cpp, so that the ones in jinja_limits.cpp are called, which call the originals:
//
//   parse_from_tokens            checks the nesting first
//   global_from_json             every rendering begins with it
//   common_chat_templates_init   } a rejected template is not tried again in the same call,
//   common_chat_templates_apply  } and the reason is kept
//
// This header is included before the first line of three sources:
//
//   runtime.cpp   mk_val, is_val and push_back count a step
//   value.cpp     mk_val and is_val as well; replace, assign and indent_str count text of filters
//   string.cpp    push_back counts the text that is appended

#include "jinja/runtime.h"
#include "jinja/string.h"
#include "jinja/value.h"

#include "json.h"
#include "unicode.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <sstream>
#include <string>
#include <utility>

namespace lookm::jinja_limits {

// Count for the rendering on this thread. Throw std::runtime_error if it exceeds a limit.
void count_step();
void count_text(size_t n_bytes);

inline size_t text_of(const std::string & text) {
    return text.size();
}

template <class Other>
size_t text_of(const Other &) {
    return 0;
}

inline size_t counted_size(int64_t n) {
    count_text(static_cast<size_t>(n));
    return static_cast<size_t>(n);
}

// Counts the replacement of n bytes of text. The text after them is moved, which is 64 times as
// fast as making text.
inline size_t counted_move(const std::string & text, size_t n, const std::string & replacement) {
    count_text(replacement.size() + (n == replacement.size() ? 0 : text.size() / 64));
    return n;
}

template <class Item>
Item && counted(Item && item) {
    count_step();
    return std::forward<Item>(item);
}

inline const jinja::string_part & counted(const jinja::string_part & part) {
    count_text(part.val.size() + sizeof(part));
    return part;
}

} // namespace lookm::jinja_limits

namespace jinja {

template <class T, class... Args>
auto mk_val_counted(Args &&... args) {
    lookm::jinja_limits::count_step();
    lookm::jinja_limits::count_text((0 + ... + lookm::jinja_limits::text_of(args)));
    return mk_val<T>(std::forward<Args>(args)...);
}

template <class T, class Value>
bool is_val_counted(const Value & value) {
    lookm::jinja_limits::count_step();
    return is_val<T>(value);
}

} // namespace jinja

#define mk_val mk_val_counted
#define is_val is_val_counted
#ifdef LOOKM_JINJA_VALUE
#define assign(n, character) assign(lookm::jinja_limits::counted_size(n), character)
#define replace(at, n, text) replace(at, lookm::jinja_limits::counted_move(str, n, text), text)
#define indent_str()                                                                               \
    (lookm::jinja_limits::counted_size(indent > 0 ? (1 + int64_t(curr_lvl)) * indent : 0),         \
     indent_str())
#else
#define push_back(item) push_back(lookm::jinja_limits::counted(item))
#endif
