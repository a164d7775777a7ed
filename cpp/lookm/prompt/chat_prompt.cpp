#include "lookm/prompt/chat_prompt.h"

#include "lookm/host/common_log.h"
#include "lookm/prompt/parse_answer.h"

#include "chat.h"
#include "json.h"

#include <exception>
#include <utility>

namespace lookm {

chat_prompt::chat_prompt(common_chat_params made, bool has_tools)
    : made_(std::make_shared<const common_chat_params>(std::move(made))), has_tools_(has_tools) {}

const std::string & chat_prompt::text() const {
    return made_->prompt;
}

bool chat_prompt::is_plain() const {
    return !has_tools_ && !made_->supports_thinking && made_->grammar.empty();
}

const std::vector<std::string> & chat_prompt::stops() const {
    return made_->additional_stops;
}

std::vector<llama_token> chat_prompt::shown(const llama_vocab * vocab) const {
    std::vector<llama_token> found;
    for (const std::string & text : made_->preserved_tokens) {
        if (const auto one = common_tokenize(vocab, text, false, true); one.size() == 1) {
            found.push_back(one[0]);
        }
    }
    return found;
}

std::string chat_prompt::parse(const std::string & answer, bool is_partial) const {
    common_chat_msg message;
    message.role = "assistant";
    const quiet_scope quiet;
    try {
        common_chat_parser_params how(*made_);
        how.reasoning_format = COMMON_REASONING_FORMAT_DEEPSEEK;
        how.parse_tool_calls = has_tools_;
        if (!made_->parser.empty()) {
            how.parser.load(made_->parser);
        }
        message = parse_answer(answer, is_partial, how);
    } catch (const std::exception &) {
        // llama.cpp's answer to text that its parser does not know; while more of it may follow,
        // none of it is certain
        message.content = is_partial ? "" : answer;
    }
    return message.to_json_oaicompat().dump_safe();
}

} // namespace lookm
