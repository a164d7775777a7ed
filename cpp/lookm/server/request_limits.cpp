#include "lookm/server/request_limits.h"

#include "server-common.h"

#include <algorithm>
#include <array>

namespace lookm::server {

namespace {

// Fields that llama-server turns into a grammar.
constexpr std::array grammar_fields = {"grammar", "grammar_triggers", "json_schema",
                                       "response_format", "tools"};

std::string nested(size_t at) {
    return "at byte " + std::to_string(at) + " it is nested deeper than " +
           std::to_string(most_nested) + " levels of brackets; expected fewer";
}

// Checks the depth of brackets, except those in "strings" and, in a grammar, in [character
// classes].
std::string too_deep(const std::string & text, const char * open, const char * close,
                     bool has_classes) {
    const std::string opening = open;
    const std::string closing = close;
    size_t depth = 0;
    char until = 0; // the character that ends the current string or class
    for (size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (until != 0) {
            i += c == '\\';
            until = c == until ? '\0' : until;
        } else if (c == '"' || (has_classes && c == '[')) {
            until = c == '"' ? '"' : ']';
        } else if (opening.find(c) != opening.npos) {
            if (++depth > most_nested) {
                return nested(i);
            }
        } else if (closing.find(c) != closing.npos) {
            depth -= depth > 0;
        }
    }
    return "";
}

std::string bad_grammar(const json & grammar) {
    if (!grammar.is_string()) {
        return "";
    }
    const std::string text = grammar;
    if (text.size() > most_grammar) {
        return "it has " + std::to_string(text.size()) + " bytes, expected at most " +
               std::to_string(most_grammar);
    }
    return too_deep(text, "(", ")", true);
}

// Triggers of a lazy grammar: llama.cpp aborts on an unknown type.
std::string bad_triggers(const json & triggers) {
    for (const json & trigger : triggers.is_array() ? triggers : json::array()) {
        const json type =
            trigger.is_object() && trigger.contains("type") ? trigger.at("type") : json(nullptr);
        const double number = type.is_number() ? type.get<double>() : -1.0;
        if (number != 0.0 && number != 1.0 && number != 2.0 && number != 3.0) {
            return "a trigger's type is " + type.dump_safe() + ", expected 0 to 3";
        }
    }
    return "";
}

struct schema_size {
    size_t n_values = 0;
    size_t n_references = 0;

    std::string add(const json & value) {
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
            for (const json & inner : value) {
                if (why = add(inner); !why.empty()) {
                    return why;
                }
            }
        }
        return why;
    }
};

bool asks_for_nothing(const std::string & field, const json & value) {
    if (value.is_null() || (value.is_array() && value.empty()) ||
        (value.is_string() && std::string(value).empty())) {
        return true;
    }
    return field == "response_format" && value.is_object() && value.contains("type") &&
           value.at("type") == "text";
}

} // namespace

std::string over_limits(const std::string & body, bool takes_grammars) {
    if (const std::string why = too_deep(body, "[{", "]}", false); !why.empty()) {
        return "request body: " + why;
    }
    const auto mentions = [&](const char * field) {
        return body.find('"' + std::string(field) + '"') != body.npos;
    };
    if (std::none_of(grammar_fields.begin(), grammar_fields.end(), mentions)) {
        return "";
    }
    const json request = json::parse_no_throw(body);
    for (const char * field : grammar_fields) {
        if (request.is_discarded() || !request.is_object() || !request.contains(field)) {
            continue;
        }
        const json & value = request.at(field);
        const std::string name = field;
        if (!takes_grammars && !asks_for_nothing(name, value)) {
            return name + ": it is given, expected none (--no-request-grammar)";
        }
        const std::string why = name == "grammar"            ? bad_grammar(value)
                                : name == "grammar_triggers" ? bad_triggers(value)
                                                             : schema_size{}.add(value);
        if (!why.empty()) {
            return name + ": " + why;
        }
    }
    return "";
}

} // namespace lookm::server
