#pragma once

#include "llama.h"

#include <memory>
#include <string>
#include <vector>

struct common_chat_templates;

namespace lookm {

// A chat template, applied by llama.cpp's own template code.
class chat_template {
  public:
    // Names of the templates that llama.cpp has built in.
    static std::vector<std::string> names();
    // The GGUF's own: Jinja text, "" for none.
    static std::string of_model(const llama_model * model);
    // Which of them to give for a model without one.
    static constexpr const char * hint = "vicuna for LLaVA-1.5, deepseek for MobileVLM, mistral-v7 "
                                         "for Mistral Small 3.1, chatml where nothing better "
                                         "is known";

    // given: Jinja text, or one of names(); "": the GGUF's own. Throws std::invalid_argument for
    // text that is no template. A GGUF without one is refused by check(), not here.
    chat_template(const llama_model * model, const std::string & model_path,
                  const std::string & given);
    ~chat_template();

    // Throws std::invalid_argument if there is no template: llama.cpp would take ChatML then, and a
    // model that does not know ChatML would see its control words as text.
    void check() const;

    // messages: JSON array in OpenAI's form; content a string or parts of type text and
    // media_marker. The prompt ends where the assistant's answer begins. Throws
    // std::invalid_argument naming messages, or as check() does.
    std::string apply(const std::string & messages) const;

  private:
    struct deleter {
        void operator()(common_chat_templates * t) const;
    };
    std::string model_path_;
    bool built_in_ = false; // a name: llama.cpp has a function for it, and no Jinja
    std::unique_ptr<common_chat_templates, deleter> templates_; // null: there is none
};

} // namespace lookm
