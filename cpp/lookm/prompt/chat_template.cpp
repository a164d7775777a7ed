#include "lookm/prompt/chat_template.h"

#include "lookm/core/bad_argument.h"
#include "lookm/host/common_log.h"
#include "lookm/prompt/grammar_limits.h"
#include "lookm/prompt/schema_grammar.h"

#include "chat.h"
#include "json.h"

#include <algorithm>
#include <stdexcept>
#include <typeinfo>

namespace lookm {

namespace {

// Why a template cannot be parsed. llama.cpp rethrows its parser's error as a plain std::exception,
// so the template is parsed again to get the message.
std::string reason_of(const std::exception & error, const std::string & source) {
    if (typeid(error) == typeid(std::exception)) {
        try {
            const common_chat_template again(source, "", "");
        } catch (const std::exception & e) {
            return e.what();
        }
    }
    return error.what();
}

// Removes the part in brackets that users cannot use from messages such as "Failed to parse
// messages: [json.exception.type_error.302] type must be string".
std::string plain(std::string message) {
    const size_t at = message.find("[json.exception.");
    const size_t end = at == message.npos ? at : message.find("] ", at);
    return end == message.npos ? message : message.erase(at, end + 2 - at);
}

// On one line, and without what llama.cpp repeats of the input.
std::string brief(const std::string & message) {
    std::string found = plain(message.substr(0, message.find("; tools = ")));
    std::replace(found.begin(), found.end(), '\n', ' ');
    constexpr size_t most = 400;
    return found.size() > most ? found.substr(0, most) + "..." : found;
}

// llama.cpp parses the messages, and templates the arguments of tool calls, recursively.
std::vector<common_chat_msg> messages_of(const std::string & json) {
    const auto check = [](const std::string & text) {
        if (const std::string why = json_over_limits(text); !why.empty()) {
            throw std::invalid_argument(why);
        }
    };
    check(json);
    std::vector<common_chat_msg> found = common_chat_msgs_parse_oaicompat(common_json::parse(json));
    for (const common_chat_msg & message : found) {
        for (const common_chat_tool_call & call : message.tool_calls) {
            check(call.arguments);
        }
    }
    return found;
}

} // namespace

std::vector<std::string> chat_template::names() {
    std::vector<const char *> found(llama_chat_builtin_templates(nullptr, 0));
    llama_chat_builtin_templates(found.data(), found.size());
    return {found.begin(), found.end()};
}

std::string chat_template::of_model(const llama_model * model) {
    const char * text = llama_model_chat_template(model, nullptr);
    if (text && *text) {
        return text;
    }
    const char * with_tools = llama_model_chat_template(model, "tool_use");
    return with_tools ? with_tools : "";
}

void chat_template::deleter::operator()(common_chat_templates * t) const {
    common_chat_templates_free(t);
}

chat_template::chat_template(const llama_model * model, const std::string & model_path,
                             const std::string & given)
    : model_path_(model_path) {
    const std::string text = given.empty() ? of_model(model) : given;
    if (text.empty()) {
        return;
    }
    const std::vector<std::string> known = names();
    built_in_ = std::find(known.begin(), known.end(), text) != known.end();
    const quiet_scope quiet;
    try {
        templates_.reset(common_chat_templates_init(model, given).release());
    } catch (const std::exception & e) {
        throw bad_argument(given.empty() ? "model_path" : "chat_template",
                           std::string(given.empty() ? "its chat template" : "it") +
                               " cannot be read: " + reason_of(e, text));
    }
}

chat_template::~chat_template() = default;

void chat_template::check() const {
    if (!templates_) {
        throw bad_argument(
            "model_path",
            "\"" + model_path_ +
                "\" has no chat template; expected one by chat_template (--chat-template): " +
                hint + ", a file, or the template's text");
    }
}

std::string chat_template::apply(const std::string & messages) const {
    chat_request request;
    request.messages = messages;
    return prompt_of(request).text();
}

chat_prompt chat_template::prompt_of(const chat_request & request) const {
    check();
    common_chat_templates_inputs inputs;
    inputs.use_jinja = !built_in_;
    inputs.reasoning_format = COMMON_REASONING_FORMAT_DEEPSEEK;
    set_tools(inputs, request);
    if (!request.json_schema.empty()) {
        grammar_of_schema(request.json_schema, "response_format"); // throws
        inputs.json_schema = request.json_schema;
    }
    set_arguments(inputs, request.template_arguments);
    const quiet_scope quiet;
    try {
        inputs.messages = messages_of(request.messages);
        const bool may_call =
            !inputs.tools.empty() && inputs.tool_choice != COMMON_CHAT_TOOL_CHOICE_NONE;
        return {common_chat_templates_apply(templates_.get(), inputs), may_call};
    } catch (const std::exception & e) {
        throw bad_argument("messages",
                           std::string("the chat template rejects them: ") + brief(e.what()));
    }
}

void chat_template::set_tools(common_chat_templates_inputs & inputs,
                              const chat_request & request) const {
    if (request.tools.empty()) {
        return;
    }
    if (built_in_) {
        throw bad_argument("tools", "llama.cpp's built-in chat templates have none; expected a "
                                    "chat_template in Jinja");
    }
    if (const std::string why = json_over_limits(request.tools); !why.empty()) {
        throw bad_argument("tools", why);
    }
    common_json tools;
    try {
        tools = common_json::parse(request.tools);
        inputs.tools = common_chat_tools_parse_oaicompat(tools);
        inputs.tool_choice = common_chat_tool_choice_parse_oaicompat(request.tool_choice);
    } catch (const std::exception & e) {
        throw bad_argument("tools", brief(e.what()));
    }
    for (const common_chat_tool & tool : inputs.tools) {
        grammar_of_schema(tool.parameters, "tools"); // throws
    }
    if (inputs.tool_choice == COMMON_CHAT_TOOL_CHOICE_REQUIRED && !request.json_schema.empty()) {
        throw bad_argument("response_format", "it is given beside a tool that must be called "
                                              "(tool_choice), expected one of them");
    }
    const auto able = common_chat_templates_get_caps(templates_.get());
    const auto parallel = able.find("supports_parallel_tool_calls");
    inputs.parallel_tool_calls =
        request.parallel_tool_calls.value_or(parallel != able.end() && parallel->second);
}

void chat_template::set_arguments(common_chat_templates_inputs & inputs,
                                  const std::string & arguments) {
    if (arguments.empty()) {
        return;
    }
    try {
        const common_json given = common_json::parse(arguments);
        for (const auto & [name, value] : given.items()) {
            inputs.chat_template_kwargs[name] = value.dump();
            if (name == "enable_thinking") {
                inputs.enable_thinking = value.template get<bool>();
            }
        }
    } catch (const std::exception & e) {
        throw bad_argument("chat_template_kwargs", brief(e.what()));
    }
}

} // namespace lookm
