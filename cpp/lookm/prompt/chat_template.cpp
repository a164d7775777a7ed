#include "lookm/prompt/chat_template.h"

#include "lookm/core/bad_argument.h"
#include "lookm/host/log.h"

#include "chat.h"
#include "json.h"
#include <log.h> // llama.cpp's, not lookm/host/log.h

#include <algorithm>
#include <stdexcept>
#include <typeinfo>

namespace lookm {

namespace {

// Silences the separate log of llama.cpp's common code, which goes to stderr.
class quiet_scope {
  public:
    quiet_scope() : threshold_(common_log_get_verbosity_thold()) {
        if (!is_verbose()) {
            common_log_set_verbosity_thold(-1);
        }
    }
    ~quiet_scope() { common_log_set_verbosity_thold(threshold_); }
    quiet_scope(const quiet_scope &) = delete;
    quiet_scope & operator=(const quiet_scope &) = delete;

  private:
    int threshold_;
};

// Why a template cannot be parsed. llama.cpp rethrows its parser's error as a plain std::exception,
// so the template is parsed again to get the message.
std::string reason_of(const std::exception & error, const std::string & source) {
    if (typeid(error) == typeid(std::exception)) {
        try {
            const common_chat_template again(source, "", "");
        } catch (const std::exception & e) {
            return e.what();
        }
    }
    return error.what();
}

// Removes the part in brackets that users cannot use from messages such as "Failed to parse
// messages: [json.exception.type_error.302] type must be string".
std::string plain(std::string message) {
    const size_t at = message.find("[json.exception.");
    const size_t end = at == message.npos ? at : message.find("] ", at);
    return end == message.npos ? message : message.erase(at, end + 2 - at);
}

} // namespace

std::vector<std::string> chat_template::names() {
    std::vector<const char *> found(llama_chat_builtin_templates(nullptr, 0));
    llama_chat_builtin_templates(found.data(), found.size());
    return {found.begin(), found.end()};
}

std::string chat_template::of_model(const llama_model * model) {
    const char * text = llama_model_chat_template(model, nullptr);
    if (text && *text) {
        return text;
    }
    const char * with_tools = llama_model_chat_template(model, "tool_use");
    return with_tools ? with_tools : "";
}

void chat_template::deleter::operator()(common_chat_templates * t) const {
    common_chat_templates_free(t);
}

chat_template::chat_template(const llama_model * model, const std::string & model_path,
                             const std::string & given)
    : model_path_(model_path) {
    const std::string text = given.empty() ? of_model(model) : given;
    if (text.empty()) {
        return;
    }
    const std::vector<std::string> known = names();
    built_in_ = std::find(known.begin(), known.end(), text) != known.end();
    const quiet_scope quiet;
    try {
        templates_.reset(common_chat_templates_init(model, given).release());
    } catch (const std::exception & e) {
        throw bad_argument(given.empty() ? "model_path" : "chat_template",
                           std::string(given.empty() ? "its chat template" : "it") +
                               " cannot be read: " + reason_of(e, text));
    }
}

chat_template::~chat_template() = default;

void chat_template::check() const {
    if (!templates_) {
        throw bad_argument(
            "model_path",
            "\"" + model_path_ +
                "\" has no chat template; expected one by chat_template (--chat-template): " +
                hint + ", a file, or the template's text");
    }
}

std::string chat_template::apply(const std::string & messages) const {
    check();
    try {
        common_chat_templates_inputs inputs;
        inputs.use_jinja = !built_in_;
        inputs.messages = common_chat_msgs_parse_oaicompat(common_json::parse(messages));
        return common_chat_templates_apply(templates_.get(), inputs).prompt;
    } catch (const std::exception & e) {
        throw bad_argument("messages",
                           std::string("the chat template rejects them: ") + plain(e.what()));
    }
}

} // namespace lookm
