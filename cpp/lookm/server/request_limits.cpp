#include "lookm/server/request_limits.h"

#include "lookm/prompt/grammar_limits.h"

#include "server-common.h"

#include <algorithm>
#include <array>

namespace lookm::server {

namespace {

// Fields that llama-server turns into a grammar.
constexpr std::array grammar_fields = {"grammar", "grammar_triggers", "json_schema",
                                       "response_format", "tools"};

std::string bad_grammar(const json & grammar) {
    if (!grammar.is_string()) {
        return "";
    }
    return grammar_over_limits(grammar);
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

// Arguments of earlier tool calls are JSON in a string, which llama.cpp parses as well.
std::string bad_arguments(const json & value) {
    std::string why;
    if (value.is_object()) {
        for (const auto & [key, inner] : value.items()) {
            why = key == "arguments" && inner.is_string()
                      ? json_over_limits(inner.template get<std::string>())
                      : bad_arguments(inner);
            if (!why.empty()) {
                return why;
            }
        }
    } else if (value.is_array()) {
        for (const json & inner : value) {
            if (why = bad_arguments(inner); !why.empty()) {
                return why;
            }
        }
    }
    return why;
}

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
    if (const std::string why = json_over_limits(body); !why.empty()) {
        return "request body: " + why;
    }
    const bool has_escapes = body.find("\\u") != body.npos; // a field's name may be written so
    const auto mentions = [&](const char * field) {
        return has_escapes || body.find('"' + std::string(field) + '"') != body.npos;
    };
    const bool has_arguments = mentions("arguments");
    if (!has_arguments && std::none_of(grammar_fields.begin(), grammar_fields.end(), mentions)) {
        return "";
    }
    const json request = json::parse_no_throw(body);
    if (has_arguments && !request.is_discarded()) {
        if (const std::string why = bad_arguments(request); !why.empty()) {
            return "arguments: " + why;
        }
    }
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
                                                             : schema_over_limits(value);
        if (!why.empty()) {
            return name + ": " + why;
        }
    }
    return "";
}

} // namespace lookm::server
