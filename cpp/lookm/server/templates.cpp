#include "lookm/server/templates.h"

#include "lookm/prompt/chat_template.h"

#include <log.h> // llama.cpp's

#include <algorithm>

namespace lookm::server {

void use_named_template(common_params & params) {
    const std::vector<std::string> names = chat_template::names();
    if (params.use_jinja && params.chat_template != "chatml" && // llama-server has it in Jinja
        std::find(names.begin(), names.end(), params.chat_template) != names.end()) {
        LOG_WRN(
            "srv        lookm: --jinja is off: %s is one of llama.cpp's own templates, not Jinja\n",
            params.chat_template.c_str());
        params.use_jinja = false;
    }
}

std::string missing_template(const llama_model * model, const common_params & params) {
    if (!params.chat_template.empty() || !chat_template::of_model(model).empty()) {
        return "";
    }
    return "--model: \"" + params.model.path +
           "\" has no chat template; expected one in --chat-template or --chat-template-file: " +
           chat_template::hint;
}

} // namespace lookm::server
