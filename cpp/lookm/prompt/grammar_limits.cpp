#include "lookm/prompt/grammar_limits.h"

#include <algorithm>

namespace lookm {

namespace {

// Where brackets are nested too deep; the text's size if they are not. Those in "strings" and, in a
// grammar, in [character classes] and # comments do not count. in_string: the text begins in one.
size_t end_of_shallow(const std::string & text, bool is_grammar, bool in_string = false) {
    const std::string opening = is_grammar ? "(" : "[{";
    const std::string closing = is_grammar ? ")" : "]}";
    size_t depth = 0;
    char until = in_string ? '"' : '\0'; // the character that ends the string, class or comment
    for (size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (c == '\\' && until != '\n') {
            ++i; // outside of strings, neither language has one
        } else if (until != 0) {
            until = c == until ? '\0' : until;
        } else if (c == '"') {
            until = '"';
        } else if (is_grammar && (c == '[' || c == '#')) {
            until = c == '[' ? ']' : '\n';
        } else if (opening.find(c) != opening.npos) {
            if (++depth > most_nested) {
                return i;
            }
        } else if (closing.find(c) != closing.npos) {
            depth -= depth > 0;
        }
    }
    return text.size();
}

std::string too_deep(const std::string & text, bool is_grammar) {
    const size_t at = end_of_shallow(text, is_grammar);
    return at == text.size()
               ? ""
               : "at byte " + std::to_string(at) + " it is nested deeper than " +
                     std::to_string(most_nested) + " levels of brackets; expected fewer";
}

struct schema_size {
    size_t n_values = 0;
    size_t n_references = 0;

    std::string add(const common_json & value) {
        if (++n_values > most_values) {
            return "it has more than " + std::to_string(most_values) + " values, expected fewer";
        }
        std::string why;
        if (value.is_object()) {
            for (const auto & [key, inner] : value.items()) {
                n_references += key == "$ref";
                const size_t length =
                    std::max(key.size(), key == "$ref" && inner.is_string()
                                             ? inner.template get<std::string>().size()
                                             : 0);
                if (length > most_name || n_references > most_references) {
                    return length > most_name
                               ? "a name has " + std::to_string(length) +
                                     " bytes, expected at most " + std::to_string(most_name)
                               : "it has more than " + std::to_string(most_references) +
                                     " \"$ref\"s, expected fewer";
                }
                if (why = add(inner); !why.empty()) {
                    return why;
                }
            }
        } else if (value.is_array()) {
            for (const common_json & inner : value) {
                if (why = add(inner); !why.empty()) {
                    return why;
                }
            }
        }
        return why;
    }
};

} // namespace

std::string json_over_limits(const std::string & json) {
    return too_deep(json, false);
}

std::string grammar_over_limits(const std::string & grammar) {
    if (grammar.size() > most_grammar) {
        return "it has " + std::to_string(grammar.size()) + " bytes, expected at most " +
               std::to_string(most_grammar);
    }
    return too_deep(grammar, true);
}

size_t parsable(const std::string & answer) {
    // where the JSON begins, one of the two is outside of strings
    return std::min(end_of_shallow(answer, false, false), end_of_shallow(answer, false, true));
}

std::string schema_over_limits(const common_json & schema) {
    return schema_size{}.add(schema);
}

} // namespace lookm
