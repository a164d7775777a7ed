#pragma once

#include "llama.h"

#include <memory>
#include <string>
#include <vector>

struct common_chat_params;

namespace lookm {

// What a chat template has made of messages: a prompt, and the form of the answer to it.
class chat_prompt {
  public:
    // has_tools: the answer may call some
    chat_prompt(common_chat_params made, bool has_tools);

    const std::string & text() const;
    const common_chat_params & form() const { return *made_; }
    bool has_tools() const { return has_tools_; }
    // The answer is text and nothing else: without tool calls, without reasoning before it, and
    // without what the template puts around JSON.
    bool is_plain() const;
    // Strings that end the answer.
    const std::vector<std::string> & stops() const;
    // Control tokens that are part of the answer's text.
    std::vector<llama_token> shown(const llama_vocab * vocab) const;

    // The answer as a message in OpenAI's format: JSON with role, content and, where there are
    // any, reasoning_content and tool_calls. is_partial: more of the answer may follow, and what
    // cannot be told yet is left out. All of an answer that is not of the form is content.
    std::string parse(const std::string & answer, bool is_partial) const;

  private:
    std::shared_ptr<const common_chat_params> made_;
    bool has_tools_;
};

} // namespace lookm
