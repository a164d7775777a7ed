#pragma once

// Chat templates come with model files, and llama.cpp runs them without a limit: a macro that calls itself and 20,000
// brackets overflow the stack, and a loop may go on for hours. Here every value that a template makes or looks at is a
// step, and steps, text and stack have limits; jinja_limits.cpp holds them. llama_cpp.cmake leads llama.cpp to us:
//
//   parse_from_tokens            looks at the nesting before it calls llama.cpp's
//   global_from_json             is what each rendering begins with
//   common_chat_templates_init   } what was refused once is not tried again within one call,
//   common_chat_templates_apply  } and the reason is not lost
//
// and this header is seen by three sources before their first line:
//
//   runtime.cpp   mk_val, is_val and push_back count a step
//   value.cpp     mk_val and is_val do; replace, assign and indent_str count the text that filters make
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

// Throw std::runtime_error once this thread's rendering has taken too many, or too much of the stack.
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

// n bytes of text are replaced: what comes after them moves, 64 times as fast as text is made.
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
#define indent_str()                                                                                                   \
    (lookm::jinja_limits::counted_size(indent > 0 ? (1 + int64_t(curr_lvl)) * indent : 0), indent_str())
#else
#define push_back(item) push_back(lookm::jinja_limits::counted(item))
#endif
