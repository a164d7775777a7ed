// The limits of chat templates; see jinja_limits.h.

#include "chat.h"
#include "jinja/parser.h"
#include "jinja/runtime.h"
#include "jinja/value.h"
#include "json.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace lookm::jinja_limits {

void count_step();
void count_text(size_t n_bytes);

namespace {

using jinja::token;

// For comparison, the 70 templates that come with llama.cpp have at most 2,462 tokens, nesting of
// 12, 26 links in an expression and 20 branches. They need 27 KiB of stack and, for ten messages,
// 5,481 steps and 0.15 MB of text. Some examine all messages for each message: with a thousand
// messages (4,510 values), one template takes 5 million steps.
constexpr size_t most_tokens = 1 << 15;     // programs are freed by recursion
constexpr size_t most_nested = 128;         // brackets and blocks, for which the parser recurses
constexpr size_t most_links = 256;          // in one expression; see links()
constexpr size_t most_branches = 256;       // elif
constexpr ptrdiff_t most_stack = 384 << 10; // some threads have only 512 KiB
constexpr uint64_t most_steps = 500'000;
constexpr uint64_t most_text = 64 << 20;
// more steps for each value that the template is given, and more bytes of text for each byte
constexpr uint64_t per_input = 1000;

// llama.cpp renders a template about forty times to find out what it supports, and continues if
// that fails. After the first rejection, nothing more is rendered in this call.
thread_local std::string refused;

[[noreturn]] void refuse(const std::string & what, uint64_t limit) {
    refused = "the template " + what + ", more than " + std::to_string(limit);
    throw std::runtime_error(refused);
}

// What the rendering on a thread has used, and its limits.
struct account {
    uint64_t steps = 0, steps_limit = UINT64_MAX;
    uint64_t text = 0, text_limit = UINT64_MAX;
    const char * stack = nullptr; // the stack pointer when it began; nullptr before
};

thread_local account now;

const char * stack_pointer() {
#if defined(__GNUC__) || defined(__clang__)
    return static_cast<const char *>(__builtin_frame_address(0));
#else
    volatile char here = 0;
    return const_cast<const char *>(&here);
#endif
}

bool opens(token::type t) {
    return t == token::open_paren || t == token::open_square_bracket ||
           t == token::open_curly_bracket;
}

bool closes(token::type t) {
    return t == token::close_paren || t == token::close_square_bracket ||
           t == token::close_curly_bracket;
}

bool is_one_of(std::string_view word, std::initializer_list<std::string_view> words) {
    return std::find(words.begin(), words.end(), word) != words.end();
}

// Whether this token may make the expression one level deeper, which costs a recursion.
bool links(const token & t) {
    switch (t.t) {
        case token::open_paren:
        case token::open_square_bracket:
        case token::open_curly_bracket:
        case token::dot:
        case token::pipe:
        case token::additive_binary_operator:
        case token::multiplicative_binary_operator:
        case token::comparison_binary_operator:
        case token::unary_operator:
            return true;
        case token::identifier:
            return is_one_of(t.value, {"not", "and", "or", "in", "is", "if", "else"});
        default:
            return false;
    }
}

// Whether the statement that begins with word i begins a block. `set x = ...` does not, as it has
// no endset.
bool begins_block(const std::vector<token> & tokens, size_t i) {
    if (tokens[i].value != "set") {
        return is_one_of(tokens[i].value, {"if", "for", "macro", "call", "filter"});
    }
    int n_open = 0;
    for (; i < tokens.size() && tokens[i].t != token::close_statement; ++i) {
        n_open += opens(tokens[i].t) - closes(tokens[i].t);
        if (tokens[i].t == token::equals && n_open == 0) {
            return false;
        }
    }
    return true;
}

// Limits recursion: llama.cpp's parser recurses, and so do running and freeing its programs.
void check_nesting(const std::vector<token> & tokens) {
    if (tokens.size() > most_tokens) {
        refuse("has " + std::to_string(tokens.size()) + " tokens", most_tokens);
    }
    size_t n_nested = 0, n_links = 0, n_branches = 0;
    for (size_t i = 0; i < tokens.size(); ++i) {
        const token & t = tokens[i];
        if (t.t == token::open_statement || t.t == token::open_expression) {
            n_links = 0;
        }
        const bool begins =
            i > 0 && tokens[i - 1].t == token::open_statement && t.t == token::identifier;
        if (opens(t.t) || (begins && begins_block(tokens, i))) {
            ++n_nested;
        } else if (n_nested > 0 &&
                   (closes(t.t) ||
                    (begins && is_one_of(t.value, {"endif", "endfor", "endmacro", "endset",
                                                   "endcall", "endfilter"})))) {
            --n_nested;
        }
        n_links += links(t);
        n_branches += begins && t.value == "elif";
        if (n_nested > most_nested) {
            refuse("nests too many brackets and blocks", most_nested);
        }
        if (n_links > most_links) {
            refuse("has too many operators in an expression", most_links);
        }
        if (n_branches > most_branches) {
            refuse("has too many branches", most_branches);
        }
    }
}

void begin() {
    if (!refused.empty()) {
        throw std::runtime_error(refused);
    }
    now = {};
    now.stack = stack_pointer();
}

// Call when the input of the template has been counted.
void set_limits() {
    now.steps_limit = most_steps + (per_input + now.steps) * now.steps;
    now.text_limit = most_text + per_input * now.text;
}

} // namespace

void count_step() {
    if (++now.steps > now.steps_limit) {
        refuse("takes too many steps for these messages", now.steps_limit);
    }
    if (now.stack && now.stack - stack_pointer() > most_stack) {
        refuse("calls itself without end: it takes too many bytes of stack", most_stack);
    }
}

void count_text(size_t n_bytes) {
    now.text += n_bytes;
    if (now.text > now.text_limit) {
        refuse("makes too many bytes of text for these messages", now.text_limit);
    }
}

} // namespace lookm::jinja_limits

namespace jinja {

program parse_from_tokens_unlimited(const lexer_result & lexer_res);
template <typename T_JSON>
void global_from_json_unlimited(context & ctx, const T_JSON & json_obj, bool mark_input);
template <>
void global_from_json_unlimited(context & ctx, const common_json & json_obj, bool mark_input);

program parse_from_tokens(const lexer_result & lexer_res) {
    lookm::jinja_limits::check_nesting(lexer_res.tokens);
    return parse_from_tokens_unlimited(lexer_res);
}

template <>
void global_from_json(context & ctx, const common_json & json_obj, bool mark_input) {
    lookm::jinja_limits::begin();
    global_from_json_unlimited(ctx, json_obj, mark_input);
    lookm::jinja_limits::set_limits();
}

} // namespace jinja

common_chat_templates_ptr common_chat_templates_init_unlimited(const llama_model * model,
                                                               const std::string & source,
                                                               const std::string & bos,
                                                               const std::string & eos);
common_chat_params
common_chat_templates_apply_unlimited(const common_chat_templates * templates,
                                      const common_chat_templates_inputs & inputs);

namespace {

template <class Call>
auto with_limits(Call call) {
    lookm::jinja_limits::refused.clear();
    try {
        return call();
    } catch (const std::exception &) {
        if (lookm::jinja_limits::refused.empty()) {
            throw;
        }
    }
    throw std::runtime_error(
        lookm::jinja_limits::refused); // llama.cpp may have replaced the exception
}

} // namespace

common_chat_templates_ptr common_chat_templates_init(const llama_model * model,
                                                     const std::string & source,
                                                     const std::string & bos,
                                                     const std::string & eos) {
    return with_limits(
        [&] { return common_chat_templates_init_unlimited(model, source, bos, eos); });
}

common_chat_params common_chat_templates_apply(const common_chat_templates * templates,
                                               const common_chat_templates_inputs & inputs) {
    return with_limits([&] { return common_chat_templates_apply_unlimited(templates, inputs); });
}
