#pragma once

#include "common.h"
#include "llama.h"

#include <string>

namespace lookm::server {

// If --chat-template is the name of one of llama.cpp's own templates, turns Jinja off, so that the
// template is applied. llama-server would read the name as Jinja source and make every prompt the
// word "vicuna".
void use_named_template(common_params & params);

// Why chats cannot be answered: neither the model nor the command line has a template, and
// llama-server would use ChatML, which such a model does not know. "" if there is a template.
std::string missing_template(const llama_model * model, const common_params & params);

} // namespace lookm::server
