#pragma once

#include "common.h"
#include "llama.h"

#include <string>

namespace lookm::server {

// llama-server takes --chat-template as Jinja, a name of one of llama.cpp's own templates too, and
// would make the prompt "vicuna" of every request. Those names are applied as they are meant,
// without Jinja.
void use_named_template(common_params & params);

// Why chats cannot be answered: neither the model nor the command line has a template, and
// llama-server would take ChatML, which such a model does not know; "" where there is one.
std::string missing_template(const llama_model * model, const common_params & params);

} // namespace lookm::server
