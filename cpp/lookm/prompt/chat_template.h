#pragma once

#include "lookm/prompt/chat_prompt.h"

#include "llama.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

struct common_chat_templates;
struct common_chat_templates_inputs;

namespace lookm {

// What a chat template gets to see, and what its answer must be. Each text is JSON.
struct chat_request {
    // An array in OpenAI's format, whose content is a string or parts of type text and
    // media_marker.
    std::string messages;
    std::string tools;                       // an array in OpenAI's format; "": none
    std::string tool_choice = "auto";        // auto, none or required
    std::optional<bool> parallel_tool_calls; // none: as the template can
    std::string json_schema;                 // of the answer; "": any
    std::string template_arguments;          // an object of further variables; "": none
};

// Calls visit(name, pointer to member) for each field.
template <class Visit>
void for_each_field(const chat_request * /*unused*/, Visit && visit) {
    visit("messages", &chat_request::messages);
    visit("tools", &chat_request::tools);
    visit("tool_choice", &chat_request::tool_choice);
    visit("parallel_tool_calls", &chat_request::parallel_tool_calls);
    visit("json_schema", &chat_request::json_schema);
    visit("template_arguments", &chat_request::template_arguments);
}

// A chat template, applied by llama.cpp's template code.
class chat_template {
  public:
    // The names of llama.cpp's built-in templates.
    static std::vector<std::string> names();
    // The template in the GGUF file: Jinja text, or "" if there is none.
    static std::string of_model(const llama_model * model);
    // Which built-in template to use for a model without its own; part of an error message.
    static constexpr const char * hint = "vicuna for LLaVA-1.5, deepseek for MobileVLM, mistral-v7 "
                                         "for Mistral Small 3.1, chatml where nothing better "
                                         "is known";

    // given: Jinja text, or one of names(); "": the template in the GGUF file. Throws bad_argument
    // for text that is not a template, but not for a GGUF file without one; see check().
    chat_template(const llama_model * model, const std::string & model_path,
                  const std::string & given);
    ~chat_template();

    // Throws bad_argument "model_path" if there is no template. llama.cpp would use ChatML then,
    // and a model that does not know ChatML would read its control words as text.
    void check() const;

    // Returns the prompt for a request, which ends where the assistant's answer begins. Throws
    // bad_argument for "messages", "tools", "response_format" and "chat_template_kwargs", or as
    // check() does.
    chat_prompt prompt_of(const chat_request & request) const;
    // The text of the prompt for messages alone.
    std::string apply(const std::string & messages) const;

  private:
    struct deleter {
        void operator()(common_chat_templates * t) const;
    };
    void set_tools(common_chat_templates_inputs & inputs, const chat_request & request) const;
    static void set_arguments(common_chat_templates_inputs & inputs, const std::string & arguments);

    std::string model_path_;
    bool built_in_ = false; // given by name: llama.cpp has code for it instead of Jinja text
    std::unique_ptr<common_chat_templates, deleter> templates_; // null without a template
};

} // namespace lookm
