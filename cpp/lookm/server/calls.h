#pragma once

// What context.cpp leads llama-server's calls to, as far as they know nothing of its slots
// (rounds.h).

#include "lookm/server/hook.h"

#include "common.h"
#include "server-schema.h"
#include "server-task.h"

#include <functional>
#include <vector>

namespace lookm::server {

// Loads the model, and ends the process with one line where its cache cannot be compressed.
common_init_result_ptr init_from_params(common_params & params);

// llama_n_ctx_seq, or with a cap the tokens that a slot may have.
uint32_t tokens_of_a_slot(const llama_context * ctx);

// As llama-server converts it, which drops fields that it does not know.
json anthropic_to_oai(const json & body);

// A request's share rides in n_discard: that has a meaning in context shift only, which is off.
int32_t pack_ratio(double ratio);
double unpack_ratio(int32_t n_discard);

// A failed decode, or one that or after which `then` throws, is llama-server's "Compute error.";
// the reason is in the log.
int32_t guarded(const std::function<int32_t()> & decode, const std::function<void()> & then);

// The parameters of a request as llama-server shows them, n_discard shown as what it stands for.
void show_ratio(json & params);

} // namespace lookm::server

namespace server_schema {

// llama-server's own evaluation, and the request's kv_ratio. Throws std::invalid_argument, which
// becomes status 400.
task_params eval_lookm_cmpl_schema(const llama_vocab * vocab, const common_params & params_base,
                                   const std::vector<llama_logit_bias> & logit_bias_eog,
                                   const json & data);

} // namespace server_schema

// An answer, with the prompt's cells beside its timings. It takes them when it is made, in the
// thread that decodes.
struct server_task_result_lookm : server_task_result_cmpl_final {
    json to_json() override;

  private:
    void add_cells(json & object) const;

    std::vector<lookm::server::prompt_cells> prompts = lookm::server::server_hook().last_prompts();
};
