#include "lookm/server/calls.h"

#include "lookm/core/bad_argument.h"
#include "lookm/prompt/parse_answer.h"
#include "lookm/server/cache_size.h"
#include "lookm/server/flags.h"
#include "lookm/server/pruned_pieces.h"
#include "lookm/server/settings.h"
#include "lookm/server/templates.h"

#include "log.h"
#include "server-chat.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <stdexcept>

namespace lookm::server {

namespace {

cache_size size_of_slots; // set when the model is loaded

constexpr double ratio_one = 1e9; // n_discard is an int32_t: nine decimals of a ratio fit

// Draft methods that read the target model's cache or hidden states fail if cells are missing.
bool shares_memory(const common_params_speculative & speculative) {
    return std::any_of(speculative.types.begin(), speculative.types.end(),
                       [](common_speculative_type type) {
                           return type == COMMON_SPECULATIVE_TYPE_DRAFT_MTP ||
                                  type == COMMON_SPECULATIVE_TYPE_DRAFT_EAGLE3 ||
                                  type == COMMON_SPECULATIVE_TYPE_DRAFT_DFLASH ||
                                  type == COMMON_SPECULATIVE_TYPE_DRAFT_DSPARK;
                       });
}

[[noreturn]] void stop(const std::string & why) {
    common_log_flush(common_log_main());
    std::fprintf(stderr, "lookm-server: %s\n", why.c_str());
    std::_Exit(bad_input); // only the HTTP server is running so far
}

// The flag that turned compression on.
std::string active_flag() {
    const settings & s = server_settings();
    return s.on_request                     ? "--kv-on-request"
           : s.default_ratio().compresses() ? "--kv-ratio"
                                            : "--kv-cells";
}

template <class T>
void force(const char * flag, T & value, T off, const char * why) {
    if (value != off) {
        LOG_WRN("srv        lookm: %s is off: %s\n", flag, why);
        value = off;
    }
}

asked_ratio request_ratio(const json & data) {
    const settings & s = server_settings();
    if (!data.contains("kv_ratio") || data.at("kv_ratio").is_null()) {
        return s.default_ratio();
    }
    const json & field = data.at("kv_ratio");
    if (field == "auto") {
        return s.auto_ratio();
    }
    const double ratio = field.is_number() ? field.get<double>() : NAN;
    if (!(ratio > 0.0 && ratio <= s.kv_ratio_max)) {
        std::ostringstream text;
        text << field.dump_safe() << " is out of range; expected a number in (0, " << s.kv_ratio_max
             << "] or \"auto\"";
        throw bad_argument("kv_ratio", text.str());
    }
    return {ratio};
}

// Host memory for prompts (--cache-ram) is shared: a quarter is llama-server's own prompt cache,
// which holds what slots held at the end of answers, an eighth is for compressed prompts, and the
// rest for full prefixes.
void share_host_memory(common_params & params) {
    static const int32_t whole = params.cache_ram_mib; // a model that is loaded again keeps it
    const size_t bytes = whole < 0 ? SIZE_MAX : static_cast<size_t>(whole) << 20;
    const bool unlimited = whole < 0;
    // what is packed is of no use where nothing can be cut
    const bool can_cut = server_hook().can_cut();
    const size_t compressed = !can_cut ? 0 : unlimited ? bytes : bytes / 8;
    // llama-server does not tell what was read with other adapters
    const bool has_own = can_cut && params.lora_adapters.empty();
    params.cache_ram_mib = !has_own ? 0 : whole > 0 ? whole / 4 : whole;
    const size_t own = static_cast<size_t>(std::max(params.cache_ram_mib, 0)) << 20;
    server_hook().compressed().limit(compressed);
    server_hook().prefixes().limit(unlimited ? bytes : bytes - own - compressed);
}

} // namespace

common_init_result_ptr init_from_params(common_params & params) {
    try {
        size_of_slots = apply_cap(params, size_of_slots);
    } catch (const std::exception & error) {
        stop(with_flag(error));
    }
    common_init_result_ptr result = (common_init_from_params) (params);
    try {
        pruned().open(params.mmproj.path,
                      params.speculative.has_dft() || shares_memory(params.speculative));
        pruned().check(pruning_of(server_settings().how));
    } catch (const std::exception & error) {
        stop(with_flag(error));
    }
    if (!server_settings().active() || !result->context()) {
        return result;
    }
    if (shares_memory(params.speculative)) {
        stop(active_flag() +
             ": drafts by MTP, EAGLE3, DFlash or DSpark use the model's memory, which "
             "compression changes; without compression they run");
    }
    const std::string why_not = kv_cache::unsupported(result->context());
    if (!why_not.empty()) {
        stop(active_flag() + ": " + why_not + "; without this flag the model runs uncompressed");
    }
    if (const std::string missing = missing_template(result->model(), params); !missing.empty()) {
        stop(missing);
    }
    try {
        server_hook().attach(result->context());
        share_host_memory(params);
    } catch (const std::invalid_argument & error) {
        stop(with_flag(error));
    }
    if (size_of_slots.n_cells > 0) {
        try {
            check_allocated(result->context());
        } catch (const std::exception & error) {
            stop(with_flag(error));
        }
        server_hook().cap(size_of_slots.n_cells, params.n_batch);
    }
    force("--context-shift", params.ctx_shift, false,
          "compressed cells have no positions of their own");
    force("--cache-reuse", params.n_cache_reuse, 0,
          "compressed cells have no positions of their own");
    if (!server_hook().can_cut()) {
        force("--ctx-checkpoints", params.n_ctx_checkpoints, 0,
              "this model's memory cannot return to a state before compression");
    }
    return result;
}

uint32_t tokens_of_a_slot(const llama_context * ctx) {
    if (size_of_slots.n_cells == 0) {
        return llama_n_ctx_seq(ctx);
    }
    return size_of_slots.n_tokens > 0 ? size_of_slots.n_tokens
                                      : llama_model_n_ctx_train(llama_get_model(ctx));
}

json anthropic_to_oai(const json & body) {
    json converted = server_chat_convert_anthropic_to_oai(body);
    if (server_settings().active() && body.contains("kv_ratio")) {
        converted["kv_ratio"] = body.at("kv_ratio");
    }
    return converted;
}

int32_t pack_ratio(const asked_ratio & ratio) {
    const auto most = static_cast<int32_t>(std::lround(ratio.most * ratio_one));
    return ratio.automatic ? -most : most;
}

asked_ratio unpack_ratio(int32_t n_discard) {
    return {std::abs(n_discard / ratio_one), n_discard < 0};
}

int32_t caught(const std::function<int32_t()> & decode) {
    constexpr int32_t compute_error = -3;
    try {
        return decode();
    } catch (const std::exception & error) {
        LOG_ERR("srv        lookm: decoding failed: %s\n", error.what());
        return compute_error;
    }
}

int32_t guarded(const std::function<int32_t()> & decode, const std::function<void()> & then) {
    const struct all_slots { // visible again, even after an exception
        ~all_slots() { server_hook().after_decode(); }
    } at_the_end;
    return caught([&] {
        const int32_t status = decode();
        server_hook().after_decode();
        if (status != 0) {
            server_hook().after_failure();
            return status;
        }
        then();
        return 0;
    });
}

void show_ratio(json & params) {
    if (params.is_object() && params.contains("n_discard")) {
        const asked_ratio ratio = unpack_ratio(params.at("n_discard").get<int32_t>());
        params["kv_ratio"] = ratio.automatic ? json("auto") : json(ratio.most);
        params["n_discard"] = 0;
    }
}

} // namespace lookm::server

namespace server_schema {

task_params eval_lookm_cmpl_schema(const llama_vocab * vocab, const common_params & params_base,
                                   const std::vector<llama_logit_bias> & logit_bias_eog,
                                   const json & data) {
    task_params params = eval_llama_cmpl_schema(vocab, params_base, logit_bias_eog, data);
    if (lookm::server::server_settings().active()) {
        params.n_discard = lookm::server::pack_ratio(lookm::server::request_ratio(data));
        params.n_cache_reuse = 0;
        params.cache_prompt = params.cache_prompt && params_base.cache_prompt;
    }
    return params;
}

} // namespace server_schema

json server_task_result_lookm::to_json() {
    json out = server_task_result_cmpl_final::to_json();
    if (!lookm::server::server_settings().active()) {
        return out;
    }
    if (out.is_array()) { // a stream's last events
        for (json & event : out) {
            add_cells(event.contains("data") ? event.at("data") : event);
        }
    } else {
        add_cells(out);
    }
    return out;
}

void server_task_result_lookm::add_cells(json & object) const {
    if (!object.is_object()) {
        return;
    }
    for (const char * key : {"generation_settings", "__verbose"}) {
        if (object.contains(key)) {
            json & inner = object.at(key);
            lookm::server::show_ratio(
                inner.contains("generation_settings") ? inner.at("generation_settings") : inner);
        }
    }
    if (constexpr const char * selected = "generation_settings/n_discard";
        object.contains(selected)) {
        object[selected] = 0; // the request named it in response_fields
    }
    const auto mine =
        std::find_if(prompts.begin(), prompts.end(), [&](const auto & p) { return p.task == id; });
    if (object.contains("timings") && mine != prompts.end()) {
        json & timings = object.at("timings");
        timings["prompt_cells"] = mine->prompt;
        timings["kept_cells"] = mine->kept;
        if (mine->pruned > 0) {
            timings["pruned_cells"] = mine->pruned;
        }
        if (mine->chosen_ratio) {
            timings["chosen_ratio"] = *mine->chosen_ratio;
        }
        if (mine->attention_held) {
            timings["attention_held"] = *mine->attention_held;
        }
    }
}

common_chat_msg lookm_checked_parse(const std::string & answer, bool is_partial,
                                    const common_chat_parser_params & how) {
    return lookm::parse_answer(answer, is_partial, how);
}
