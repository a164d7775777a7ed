#include "lookm/server/templates.h"

#include "lookm/llama/chat_template.h"

#include <log.h> // llama.cpp's

#include <algorithm>

namespace lookm::server {

void use_named_template(common_params & params) {
    const std::vector<std::string> names = chat_template::names();
    if (params.use_jinja && params.chat_template != "chatml" && // which llama-server has in Jinja, too
        std::find(names.begin(), names.end(), params.chat_template) != names.end()) {
        LOG_WRN("srv        lookm: --jinja is off: %s is a template of llama.cpp's own, and no Jinja\n",
                params.chat_template.c_str());
        params.use_jinja = false;
    }
}

std::string missing_template(const llama_model * model, const common_params & params) {
    const auto has = [&](const char * name) {
        const char * text = llama_model_chat_template(model, name);
        return text && *text;
    };
    if (!params.chat_template.empty() || has(nullptr) || has("tool_use")) {
        return "";
    }
    return "--model: \"" + params.model.path +
           "\" has no chat template; expected one by --chat-template or --chat-template-file: vicuna for LLaVA-1.5, "
           "deepseek for MobileVLM, mistral-v7 for Mistral Small 3.1, chatml where nothing better is known";
}

} // namespace lookm::server
