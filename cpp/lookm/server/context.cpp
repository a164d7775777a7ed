// llama-server's server-context.cpp, unchanged, with some of its calls redirected to our code.
// tests/server fails if one of these names has disappeared:
//
//   common_init_from_params         the model has been loaded: can its cache be compressed?
//   eval_llama_cmpl_schema          a request's JSON becomes parameters; adds its kv_ratio
//   server_chat_convert_...to_oai   a request in Anthropic's form becomes one in OpenAI's form;
//                                   keeps its kv_ratio
//   llama_n_ctx_seq                 tokens of a slot, which may be more than its cells
//   process_mtmd_prompt             } images of a prompt are decoded and prepared one by one, and
//   tokenize_input_prompts          } pruned
//   callback_on_reset               a slot becomes idle: cells of a prompt read in part are freed
//   on_update_slots                 one round of the loop: which slots take part in it
//   mtmd_batch_add_chunk            } of a pruned image, the encoder makes all cells, some of which
//   mtmd_batch_get_output_embd      } are decoded
//   mtmd_helper_decode_image_chunk  } attention is summed up while a prompt is decoded, in full
//   llama_process                   } batches, and the prompt is compressed after its last token
//   server_task_result_cmpl_final   an answer's JSON; adds its numbers of cells
//   llama_state_seq_save_file       a slot file is written completely or not at all
//   llama_state_seq_load_file       a damaged file is an error; llama.cpp would abort

#include "server-chat.h"
#include "server-common.h"
#include "server-context.h"
#include "server-http.h"
#include "server-queue.h"
#include "server-schema.h"
#include "server-stream.h"
#include "server-task.h"

#include "build-info.h"
#include "common.h"
#include "fit.h"
#include "llama.h"
#include "log.h"
#include "mtmd-helper.h"
#include "mtmd.h"
#include "sampling.h"
#include "speculative.h"

#include "lookm/server/decodes.h"
#include "lookm/server/pictures.h"
#include "lookm/server/rounds.h"
#include "lookm/server/slot_file.h"

#define common_init_from_params(...) lookm::server::init_from_params(__VA_ARGS__)
#define eval_llama_cmpl_schema eval_lookm_cmpl_schema
#define server_chat_convert_anthropic_to_oai lookm::server::anthropic_to_oai
#define process_mtmd_prompt(...) lookm::server::process_prompt(__VA_ARGS__)
#define tokenize_input_prompts(...) lookm::server::tokenize_prompts(__VA_ARGS__)
#define callback_on_reset(...) (lookm::server::released(*this), callback_on_reset(__VA_ARGS__))
#define on_update_slots(...)                                                                       \
    on_update_slots([this, round = std::function<void()>(__VA_ARGS__)] {                           \
        const auto refuse = [this](server_slot & slot, const char * why) {                         \
            send_error(slot, why, ERROR_TYPE_INVALID_REQUEST);                                     \
            slot.release();                                                                        \
        };                                                                                         \
        const auto held = lookm::server::before_round(slots, params_base, refuse);                 \
        round();                                                                                   \
        lookm::server::after_round(held);                                                          \
    })
#define mtmd_batch_add_chunk(...) lookm::server::add_chunk(__VA_ARGS__)
#define mtmd_batch_get_output_embd(...) lookm::server::output_of(__VA_ARGS__)
#define mtmd_helper_decode_image_chunk(...) lookm::server::decode_image(slot, __VA_ARGS__)
#define llama_n_ctx_seq(...) lookm::server::tokens_of_a_slot(__VA_ARGS__)
#define llama_process(...)                                                                         \
    lookm::server::decode_batch(slots, ctx_tgt, batch.view,                                        \
                                [&] { return (llama_process) (__VA_ARGS__); })
#define server_task_result_cmpl_final server_task_result_lookm
#define llama_state_seq_save_file(...) lookm::server::save_slot_file(__VA_ARGS__)
#define llama_state_seq_load_file(...) lookm::server::load_slot_file(__VA_ARGS__)

#include "server-context.cpp"
