#include "lookm/server/flags.h"

#include "lookm/core/bad_argument.h"
#include "lookm/core/compression.h"
#include "lookm/server/flag_values.h"
#include "lookm/server/origins.h"
#include "lookm/server/settings.h"

#include "arg.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <stdexcept>

namespace lookm::server {

namespace {

// One of our flags: its text for llama.cpp's help, the option that it sets, and how it sets it.
struct flag {
    std::string option; // as errors name it (bad_argument)
    common_arg help;
    std::function<void(settings &, const std::string &)> set;
};

std::string method_names() {
    std::string names;
    for (const method & m : methods()) {
        names += (names.empty() ? "" : ", ") + std::string(m.name);
    }
    return names;
}

flag with_value(const char * option, const char * name, const char * hint, const std::string & help,
                const char * env, std::function<void(settings &, const std::string &)> set) {
    common_arg arg({name}, hint, help, [](common_params &, const std::string &) {});
    return {option, arg.set_env(env), std::move(set)};
}

flag with_switch(const char * option, const char * name, const std::string & help, const char * env,
                 void (*set)(settings &, bool)) {
    common_arg arg({name}, help, [](common_params &) {});
    return {option, arg.set_env(env), [set](settings & s, const std::string & v) {
                bool on = false;
                parse(on, v);
                set(s, on);
            }};
}

// The flag of each field of a compression.
struct field_flag {
    const char *name, *env, *hint;
    std::string help;
};

const std::map<std::string, field_flag> & compression_flags() {
    static const std::map<std::string, field_flag> all = {
        {"kv_ratio",
         {"--kv-ratio", "LLAMA_ARG_KV_RATIO", "{R,auto}",
          "fraction of a prompt's KV cells to keep, in (0, 1]; 1 compresses nothing; auto finds "
          "the smallest one\nthat holds --kv-quality (default: 1)"}},
        {"method",
         {"--kv-method", "LLAMA_ARG_KV_METHOD", "NAME",
          "compression method (default: " + compression().method + ")\none of " + method_names()}},
        {"important_ratio",
         {"--kv-important-ratio", "LLAMA_ARG_KV_IMPORTANT_RATIO", "R",
          "fraction of cells to keep because of the attention they received (default: 0.9 of "
          "--kv-ratio with\nlookm_plus, half of it with all other methods)"}},
        {"recent_ratio",
         {"--kv-recent-ratio", "LLAMA_ARG_KV_RECENT_RATIO", "R",
          "fraction of cells to keep because they are the last ones (default: the rest of "
          "--kv-ratio)"}},
        {"ratio_floor",
         {"--kv-ratio-floor", "LLAMA_ARG_KV_RATIO_FLOOR", "R",
          "smallest ratio that --kv-ratio auto takes (default: " +
              number(compression().ratio_floor) + ")"}},
        {"ratio_ceiling",
         {"--kv-ratio-ceiling", "LLAMA_ARG_KV_RATIO_CEILING", "R",
          "largest ratio that --kv-ratio auto takes (default: " +
              number(compression().ratio_ceiling) + ")"}},
        {"quality",
         {"--kv-quality", "LLAMA_ARG_KV_QUALITY", "Q",
          "share of a prompt's attention that the cells kept by --kv-ratio auto hold, in (0, 1] "
          "(default: " +
              number(compression().quality) + ")"}},
        {"text_overflow",
         {"--kv-text-overflow", "LLAMA_ARG_KV_TEXT_OVERFLOW", "{keep,evict}",
          "if text alone exceeds the ratio: keep all of it, or evict some of it (default: evict "
          "with\nlookm_plus, otherwise keep)"}},
        {"fidelity",
         {"--kv-fidelity", "LLAMA_ARG_KV_FIDELITY", "{paper,upstream}",
          "which one to follow where LOOK-M's paper and its published code differ (default: "
          "paper)"}},
        {"scorer",
         {"--kv-scorer", "LLAMA_ARG_KV_SCORER", "{cumulative,window,none}",
          "whose attention counts for the score: that of all queries, of the last ones, or none "
          "(default:\ndepends on the method)"}},
        {"window",
         {"--kv-window", "LLAMA_ARG_KV_WINDOW", "N",
          "number of queries for --kv-scorer window (default: depends on the method, or the text "
          "after the\nlast image)"}},
        {"merge",
         {"--kv-merge", "LLAMA_ARG_KV_MERGE", "{none,average,pivot,weighted}",
          "how evicted cells are merged into kept ones (default: as the method says)"}},
        {"merge_keys",
         {"--kv-merge-keys", "LLAMA_ARG_KV_MERGE_KEYS", "{true,false}",
          "merge evicted keys and values (true), or values only (default: true)"}},
        {"merge_within_modality",
         {"--kv-merge-within-modality", "LLAMA_ARG_KV_MERGE_WITHIN_MODALITY", "{true,false}",
          "merge text only into text, and images only into images (default: false)"}},
        {"visual_quota",
         {"--kv-visual-quota", "LLAMA_ARG_KV_VISUAL_QUOTA", "R",
          "minimum fraction of the important cells reserved for images (default: 0.25 with "
          "lookm_plus,\notherwise 0)"}},
        {"image_ratio",
         {"--image-ratio", "LLAMA_ARG_IMAGE_RATIO", "R",
          "share of each image's cells that the language model reads, in (0, 1] (default: 1)"}},
        {"image_cells",
         {"--image-cells", "LLAMA_ARG_IMAGE_CELLS", "N",
          "number of cells of each image that it reads (default: as --image-ratio says)"}},
        {"pruner",
         {"--pruner", "LLAMA_ARG_PRUNER", "{divprune,cdpruner,grid,random,none}",
          "which cells of an image are read (default: " + compression().pruner + ")"}},
        {"seed",
         {"--kv-seed", "LLAMA_ARG_KV_SEED", "N",
          "random seed for --kv-method random and --pruner random (default: 0)"}},
    };
    return all;
}

const std::vector<flag> & flags() {
    static const std::vector<flag> all = [] {
        std::vector<flag> list;
        for_each_field(static_cast<compression *>(nullptr),
                       [&list](const char * option, auto member) {
                           const field_flag & f = compression_flags().at(option);
                           list.push_back(with_value(option, f.name, f.hint, f.help, f.env,
                                                     [member](settings & s, const std::string & v) {
                                                         parse(s.how.*member, v);
                                                     }));
                       });
        const std::vector<flag> others = {
            with_value("kv_ratio_max", "--kv-ratio-max", "R",
                       "largest kv_ratio that a request may ask for (default: 1)",
                       "LLAMA_ARG_KV_RATIO_MAX",
                       [](settings & s, const std::string & v) { parse(s.kv_ratio_max, v); }),
            with_value("kv_min_cells", "--kv-min-cells", "N",
                       "do not compress prompts shorter than this (default: 0)",
                       "LLAMA_ARG_KV_MIN_CELLS",
                       [](settings & s, const std::string & v) { parse(s.min_cells, v); }),
            with_value("kv_cells", "--kv-cells", "N",
                       "largest number of KV cells in the cache, divided equally among the slots; "
                       "longer prompts are\nsqueezed while they are read, and -c sets how many "
                       "tokens each slot may have (default: no limit\nother than -c)",
                       "LLAMA_ARG_KV_CELLS",
                       [](settings & s, const std::string & v) { parse(s.kv_cells, v); }),
            with_value("kv_memory", "--kv-memory", "SIZE",
                       "the same limit as the size of the KV buffers, such as 512MiB",
                       "LLAMA_ARG_KV_MEMORY",
                       [](settings & s, const std::string & v) { s.kv_memory = parsed_bytes(v); }),
            with_value("kv_prefix_type", "--kv-prefix-type", "TYPE",
                       "type of K and V of the full prompts that are kept in host memory "
                       "(--cache-ram), such as\nq8_0 or q4_0, which take a half and a quarter of "
                       "the bytes of f16 (default: that of the cache)",
                       "LLAMA_ARG_KV_PREFIX_TYPE",
                       [](settings & s, const std::string & v) { s.prefix_type = v; }),
            with_value("image_cache", "--image-cache", "SIZE",
                       "memory for images that are decoded and scaled, such as 1GiB; an image that "
                       "comes again is not\ndecoded again, and 0 keeps none (default: 256MiB)",
                       "LLAMA_ARG_IMAGE_CACHE",
                       [](settings & s, const std::string & v) {
                           s.image_cache = v == "0" ? 0 : parsed_bytes(v);
                       }),
            with_value("image_ratio_max", "--image-ratio-max", "R",
                       "largest image_ratio that a request may ask for (default: 1)",
                       "LLAMA_ARG_IMAGE_RATIO_MAX",
                       [](settings & s, const std::string & v) { parse(s.image_ratio_max, v); }),
            with_value("allow_origin", "--allow-origin", "LIST",
                       "serve only web pages of these origins, separated by commas, such as "
                       "https://chat.example.org;\nself: only this server's own page (default: "
                       "any page)",
                       "LLAMA_ARG_ALLOW_ORIGIN",
                       [](settings & /*s*/, const std::string & v) { allowed_origins().allow(v); }),
            with_value("image_max_pixels", "--image-max-pixels", "N",
                       "largest number of pixels in an image; larger images are refused before "
                       "they are decoded\n(default: " +
                           std::to_string(default_max_pixels) +
                           " if prompts may be compressed, otherwise no limit)",
                       "LLAMA_ARG_IMAGE_MAX_PIXELS",
                       [](settings & s, const std::string & v) { parse(s.image_max_pixels, v); }),
        };
        list.insert(list.end(), others.begin(), others.end());
        list.push_back(with_switch("kv_on_request", "--kv-on-request",
                                   "compress a prompt only if its request sets kv_ratio",
                                   "LLAMA_ARG_KV_ON_REQUEST",
                                   [](settings & s, bool on) { s.on_request = on; }));
        list.push_back(with_switch(
            "kv_strict_reuse", "--kv-strict-reuse", "never continue from a compressed prompt",
            "LLAMA_ARG_KV_STRICT_REUSE", [](settings & s, bool on) { s.strict_reuse = on; }));
        list.push_back(with_switch(
            "no_request_grammar", "--no-request-grammar",
            "refuse requests with a grammar, a JSON schema or tools: a short one can keep the "
            "server busy\nfor minutes",
            "LLAMA_ARG_NO_REQUEST_GRAMMAR",
            [](settings & s, bool on) { s.no_request_grammar = on; }));
        list.push_back(with_switch("check_files", "--no-check-files",
                                   "open model and projector directly, without testing new "
                                   "files in a child process first: a\ndamaged file may then end "
                                   "the server",
                                   "LLAMA_ARG_NO_CHECK_FILES",
                                   [](settings & s, bool off) { s.checks.files = !off; }));
        list.push_back(with_switch("check_memory", "--no-check-memory",
                                   "start without comparing what model, projector and cache take "
                                   "with the available memory: if\nthey do not fit, ggml ends "
                                   "the process",
                                   "LLAMA_ARG_NO_CHECK_MEMORY",
                                   [](settings & s, bool off) { s.checks.memory = !off; }));
        return list;
    }();
    return all;
}

void set_environment(const char * name, const std::string & value) {
#if defined(_WIN32)
    _putenv_s(name, value.c_str());
#else
    setenv(name, value.c_str(), /*overwrite =*/1);
#endif
}

void set(const flag & f, const std::string & where, const std::string & value) {
    try {
        f.set(server_settings(), value);
    } catch (const std::invalid_argument & error) {
        throw std::invalid_argument(where + ": " + error.what());
    }
}

} // namespace

std::string flag_of(const std::string & option) {
    static const std::map<std::string, std::string> of_llama_cpp = {
        {"type_k", "--cache-type-k"}, {"type_v", "--cache-type-v"}, {"flash_attn", "--flash-attn"},
        {"model_path", "--model"},    {"mmproj", "--mmproj"},       {"n_ubatch", "--ubatch-size"},
        {"n_batch", "--batch-size"},
    };
    const auto own = std::find_if(flags().begin(), flags().end(),
                                  [&](const flag & f) { return f.option == option; });
    if (own != flags().end()) {
        return own->help.args.front();
    }
    const auto found = of_llama_cpp.find(option);
    return found == of_llama_cpp.end() ? option : found->second;
}

std::string with_flag(const std::exception & error) {
    const std::string text = error.what();
    const auto * const bad = dynamic_cast<const bad_argument *>(&error);
    if (!bad) { // from a child process, or not about an option
        const size_t end = std::min(text.find(": "), text.size());
        return flag_of(text.substr(0, end)) + text.substr(end);
    }
    std::string flags; // bad->name may hold several options: "important_ratio + recent_ratio"
    for (size_t at = 0, end = 0; at < bad->name.size(); at = end) {
        const bool is_name = std::string(" ,+").find(bad->name[at]) == std::string::npos;
        end = is_name ? std::min(bad->name.find_first_of(" ,+", at), bad->name.size()) : at + 1;
        const std::string word = bad->name.substr(at, end - at);
        flags += is_name ? flag_of(word) : word;
    }
    return flags + text.substr(bad->name.size());
}

std::vector<char *> take_flags(int argc, char ** argv) {
    for (const flag & f : flags()) {
        std::string value;
        if (f.help.get_value_from_env(value)) {
            set(f, f.help.env, value);
        }
    }
    std::vector<char *> rest = {argv[0]};
    for (int i = 1; i < argc; ++i) {
        std::string name = argv[i];
        if (name.rfind("--", 0) == 0) {
            std::replace(name.begin(), name.end(), '_', '-'); // as in llama.cpp's flags
        }
        const auto found = std::find_if(flags().begin(), flags().end(), [&](const flag & f) {
            return name == f.help.args.front();
        });
        if (found == flags().end()) {
            rest.push_back(argv[i]);
            continue;
        }
        std::string value = "true";
        if (found->help.value_hint) {
            if (++i == argc) {
                throw std::invalid_argument(name + ": expected a value");
            }
            value = argv[i];
        }
        set(*found, name, value);
        set_environment(found->help.env, value);
    }
    try {
        server_settings().check();
    } catch (const std::invalid_argument & error) {
        throw std::invalid_argument(with_flag(error));
    }
    rest.push_back(nullptr); // argv ends with it
    return rest;
}

void print_flags(int /*argc*/, char ** /*argv*/) {
    std::printf("\n\n----- KV compression params (lookm) -----\n\n");
    for (const flag & f : flags()) {
        std::printf("%s", f.help.to_string().c_str());
    }
}

} // namespace lookm::server
