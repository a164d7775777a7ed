#include "lookm/server/routes.h"

#include "lookm/server/calls.h"
#include "lookm/server/hook.h"
#include "lookm/server/pictures.h"
#include "lookm/server/pruned_pieces.h"
#include "lookm/server/settings.h"
#include "lookm/server/slot_file.h"

#include <limits>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>

namespace lookm::server {

namespace {

using handler = server_http_context::handler_t;

template <class T>
json as_json(const T & value) {
    return value;
}

template <class T>
json as_json(const std::optional<T> & value) {
    return value ? json(*value) : json();
}

json as_json(const ratio_or_auto & value) {
    return std::visit([](const auto & v) { return json(v); }, value);
}

json describe(const settings & s) {
    const asked_ratio ratio = s.default_ratio();
    const ratios r = s.shares();
    const auto unless_auto = [&](double v) { return ratio.automatic ? json() : json(v); };
    const char * overflow = s.resolved().text_overflow == text_overflow::keep ? "keep" : "evict";
    json out = {
        {"kv_ratio", ratio.automatic ? json("auto") : json(ratio.most)},
        {"kv_ratio_max", s.kv_ratio_max},
        {"kv_method", s.how.method},
        {"kv_important_ratio", unless_auto(r.important)},
        {"kv_recent_ratio", unless_auto(r.recent)},
        {"kv_text_overflow", overflow},
        {"kv_on_request", s.on_request},
        {"kv_min_cells", s.min_cells},
        {"kv_strict_reuse", s.strict_reuse},
        {"kv_cells", server_hook().slot_cells()},
        {"kv_prefix_type", s.prefix_type},
        {"image_cache", s.image_cache},
        {"image_ratio", s.how.image_ratio},
        {"image_ratio_max", s.image_ratio_max},
        {"image_cells", as_json(s.how.image_cells)},
        {"pruner", s.how.pruner},
        {"image_max_pixels", s.max_pixels()},
    };
    for_each_field(&s.how, [&](const std::string & name, auto member) {
        const std::string key = (name.starts_with("kv_") ? "" : "kv_") + name;
        if (!out.contains(key) && !out.contains(name)) { // those above have their effective values
            out[key] = as_json(s.how.*member);
        }
    });
    return out;
}

// The handler, with `change` applied to each successful answer.
template <class Change>
handler with(handler inner, Change change) {
    return [inner = std::move(inner), change](const server_http_req & req) {
        server_http_res_ptr res = inner(req);
        if (res && res->status == 200 && !res->is_stream()) {
            change(*res);
        }
        return res;
    };
}

void add_settings(server_http_res & res) {
    json props = json::parse(res.data);
    props["lookm"] = describe(server_settings());
    res.data = props.dump_safe();
}

void add_slots(server_http_res & res) {
    json slots = json::parse(res.data);
    for (json & slot : slots) {
        if (slot.contains("params")) {
            show_ratio(slot.at("params"));
        }
        slot["lookm"] = describe(server_settings());
    }
    res.data = slots.dump_safe();
}

void add_metrics(server_http_res & res) {
    const metrics & numbers = server_hook().numbers();
    const counters c = numbers.count();
    std::ostringstream out;
    out.precision(std::numeric_limits<double>::max_digits10);
    const auto metric = [&](const char * kind, const char * name, const char * help, auto value) {
        out << "# HELP lookm:" << name << ' ' << help << "\n# TYPE lookm:" << name << ' ' << kind
            << "\nlookm:" << name << ' ' << value << '\n';
    };
    metric("counter", "prompts_compressed_total", "Number of prompts compressed.", c.prompts);
    metric("counter", "cells_before_total", "KV cells of these prompts before compression.",
           c.cells_before);
    metric("counter", "cells_after_total", "KV cells of these prompts after compression.",
           c.cells_after);
    metric("counter", "compress_seconds_total", "Time spent in compression.", c.seconds);
    out << "# HELP lookm:attention_held Share of the attention to a prompt that its kept cells "
           "hold.\n# TYPE lookm:attention_held summary\nlookm:attention_held_sum "
        << c.attention_held << "\nlookm:attention_held_count " << c.prompts_with_attention << '\n';
    metric("counter", "images_decoded_total", "Number of images decoded and scaled.",
           prepared().n_decoded());
    metric("counter", "images_known_total",
           "Number of images that came again and were not decoded (--image-cache).",
           prepared().n_found());
    metric("counter", "image_cells_pruned_total",
           "Cells of images that were encoded and not read (--image-ratio).",
           pruned().n_left_out());
    metric("counter", "prune_seconds_total", "Time spent in choosing the cells to read.",
           pruned().seconds());
    metric("counter", "prefixes_restored_total",
           "Prompts that went on from a full prompt in host memory.",
           numbers.prefixes_restored.load());
    metric("counter", "prompts_repeated_total",
           "Prompts that came again exactly, and were neither read nor compressed again.",
           numbers.prompts_repeated.load());
    metric("counter", "cells_restored_total", "KV cells that these prompts did not read.",
           numbers.tokens_restored.load());
    metric("gauge", "prefix_bytes", "Bytes of full prompts in host memory.",
           numbers.prefix_bytes.load());
    metric("gauge", "compressed_prompt_bytes", "Bytes of compressed prompts in host memory.",
           numbers.compressed_prompt_bytes.load());
    metric("gauge", "kv_cells_used", "KV cells in use.", numbers.cells_used.load());
    metric("gauge", "kv_cells_allocated", "KV cells of the cache.", numbers.cells_allocated.load());
    res.data += out.str();
}

// The slot file that a request names; "" for a name that llama-server does not accept.
std::string slot_file_of(const server_http_req & req) {
    try {
        const auto name = json::parse(req.body).at("filename").get<std::string>();
        return fs_validate_filename(name) ? name : "";
    } catch (const std::exception &) { // llama-server reports what is wrong
        return "";
    }
}

// Refuses a damaged slot file before llama-server empties the slot.
handler checked_restore(handler inner, const std::string & folder) {
    return [inner = std::move(inner), folder](const server_http_req & req) {
        if (!folder.empty() && req.get_param("action") == "restore") {
            const std::string name = slot_file_of(req);
            const std::string damage = name.empty() ? "" : damage_of(folder + name);
            if (!damage.empty()) {
                throw std::invalid_argument("Unable to restore slot: " + name +
                                            " is damaged: " + damage);
            }
        }
        return inner(req);
    };
}

} // namespace

routes::routes(const common_params & common, server_context & context)
    : server_routes(common, context) {
    if (!server_settings().active() && !pruning_of(server_settings().how).on()) {
        return;
    }
    get_props = with(std::move(get_props), add_settings);
    get_slots = with(std::move(get_slots), add_slots);
    get_metrics = with(std::move(get_metrics), add_metrics);
    post_slots = checked_restore(std::move(post_slots), common.slot_save_path);
}

} // namespace lookm::server
