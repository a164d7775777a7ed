#include "lookm/prompt/parse_answer.h"

#include "lookm/prompt/grammar_limits.h"

#include "chat.h"

namespace lookm {

common_chat_msg parse_answer(const std::string & answer, bool is_partial,
                             const common_chat_parser_params & how) {
    const size_t n = parsable(answer);
    return n == answer.size() ? common_chat_parse(answer, is_partial, how)
                              : common_chat_parse(answer.substr(0, n), true, how);
}

} // namespace lookm
