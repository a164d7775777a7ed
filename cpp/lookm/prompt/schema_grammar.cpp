#include "lookm/prompt/schema_grammar.h"

#include "lookm/core/bad_argument.h"
#include "lookm/prompt/grammar_limits.h"

#include "json-schema-to-grammar.h"

#include <exception>

namespace lookm {

std::string grammar_of_schema(const std::string & json_schema, const char * argument) {
    std::string why = json_over_limits(json_schema);
    if (why.empty()) {
        try {
            const common_json schema = common_json::parse(json_schema);
            why = schema_over_limits(schema);
            if (why.empty()) {
                return json_schema_to_grammar(schema);
            }
        } catch (const std::exception & error) {
            why = error.what();
        }
    }
    throw bad_argument(argument, "its schema cannot be used: " + why);
}

} // namespace lookm
