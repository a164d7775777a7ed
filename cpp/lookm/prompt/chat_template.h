#pragma once

#include "llama.h"

#include <memory>
#include <string>
#include <vector>

struct common_chat_templates;

namespace lookm {

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

    // Returns the prompt for messages, which ends where the assistant's answer begins. messages: a
    // JSON array in OpenAI's format, whose content is a string or parts of type text and
    // media_marker. Throws bad_argument "messages", or as check() does.
    std::string apply(const std::string & messages) const;

  private:
    struct deleter {
        void operator()(common_chat_templates * t) const;
    };
    std::string model_path_;
    bool built_in_ = false; // given by name: llama.cpp has code for it instead of Jinja text
    std::unique_ptr<common_chat_templates, deleter> templates_; // null without a template
};

} // namespace lookm
