#pragma once

#include <string>

struct common_chat_msg;
struct common_chat_parser_params;

namespace lookm {

// As common_chat_parse, which is recursive: of an answer that is nested too deep
// (grammar_limits.h), only the beginning.
common_chat_msg parse_answer(const std::string & answer, bool is_partial,
                             const common_chat_parser_params & how);

} // namespace lookm
