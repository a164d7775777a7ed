#pragma once

// Replacements for calls of llama-server that do not involve its slots. For those that do, see
// rounds.h and decodes.h.

#include "lookm/server/hook.h"

#include "common.h"
#include "server-schema.h"
#include "server-task.h"

#include <functional>
#include <vector>

namespace lookm::server {

// Loads the model. Prints one line and ends the process if its cache cannot be compressed.
common_init_result_ptr init_from_params(common_params & params);

// llama_n_ctx_seq; with a cap, the largest number of tokens of a slot.
uint32_t tokens_of_a_slot(const llama_context * ctx);

// llama-server's conversion drops fields that it does not know; this one keeps kv_ratio.
json anthropic_to_oai(const json & body);

// A request's ratio is passed on in n_discard, a parameter of context shift, which is off. A
// negative number means "auto".
int32_t pack_ratio(const asked_ratio & ratio);
asked_ratio unpack_ratio(int32_t n_discard);

// Calls decode, and returns what it does. If it throws, llama-server reports "Compute error.", and
// the log has the reason.
int32_t caught(const std::function<int32_t()> & decode);
// Calls decode, and after a successful one `then`. If either throws, the same.
int32_t guarded(const std::function<int32_t()> & decode, const std::function<void()> & then);

// In the parameters of a request as llama-server shows them: moves n_discard to kv_ratio.
void show_ratio(json & params);

} // namespace lookm::server

namespace server_schema {

// llama-server's evaluation of a request, with its kv_ratio. Throws std::invalid_argument, which
// becomes status 400.
task_params eval_lookm_cmpl_schema(const llama_vocab * vocab, const common_params & params_base,
                                   const std::vector<llama_logit_bias> & logit_bias_eog,
                                   const json & data);

} // namespace server_schema

// An answer whose timings include the prompt's cells. It copies their numbers when it is created,
// in the thread that decodes.
struct server_task_result_lookm : server_task_result_cmpl_final {
    json to_json() override;

  private:
    void add_cells(json & object) const;

    std::vector<lookm::server::prompt_cells> prompts = lookm::server::server_hook().last_prompts();
};

// llama-server's common_chat_parse, in server-task.cpp.
common_chat_msg lookm_checked_parse(const std::string & answer, bool is_partial,
                                    const common_chat_parser_params & how);
