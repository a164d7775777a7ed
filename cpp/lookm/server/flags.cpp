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

// A flag of ours: what llama.cpp's own help needs of it, the option that it sets, and how.
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

// How each field of a compression is called here.
struct field_flag {
    const char *name, *env, *hint;
    std::string help;
};

const std::map<std::string, field_flag> & compression_flags() {
    static const std::map<std::string, field_flag> all = {
        {"kv_ratio",
         {"--kv-ratio", "LLAMA_ARG_KV_RATIO", "R",
          "share of a prompt's KV cells to keep, in (0, 1]; 1 compresses nothing (default: 1)"}},
        {"method",
         {"--kv-method", "LLAMA_ARG_KV_METHOD", "NAME",
          "how to compress (default: " + compression().method + ")\none of " + method_names()}},
        {"important_ratio",
         {"--kv-important-ratio", "LLAMA_ARG_KV_IMPORTANT_RATIO", "R",
          "share kept for the attention it received (default: 0.9 of --kv-ratio, half of it with "
          "all methods but\n"
          "lookm_plus)"}},
        {"recent_ratio",
         {"--kv-recent-ratio", "LLAMA_ARG_KV_RECENT_RATIO", "R",
          "share kept as the last of the prompt (default: the rest of --kv-ratio)"}},
        {"text_overflow",
         {"--kv-text-overflow", "LLAMA_ARG_KV_TEXT_OVERFLOW", "{keep,evict}",
          "when text alone exceeds the share: keep all of it, or evict down to the share (default: "
          "evict with "
          "lookm_plus, else keep)"}},
        {"fidelity",
         {"--kv-fidelity", "LLAMA_ARG_KV_FIDELITY", "{paper,upstream}",
          "where LOOK-M's paper and its published code differ: which of them holds (default: "
          "paper)"}},
        {"scorer",
         {"--kv-scorer", "LLAMA_ARG_KV_SCORER", "{cumulative,window,none}",
          "whose attention cells are judged by: all queries', the last ones', or nobody's "
          "(default: the method's)"}},
        {"window",
         {"--kv-window", "LLAMA_ARG_KV_WINDOW", "N",
          "queries of the window scorer (default: the method's, or the text after the last "
          "image)"}},
        {"merge_keys",
         {"--kv-merge-keys", "LLAMA_ARG_KV_MERGE_KEYS", "{true,false}",
          "merge evicted keys as values are merged, or leave the kept keys as they are (default: "
          "true)"}},
        {"merge_within_modality",
         {"--kv-merge-within-modality", "LLAMA_ARG_KV_MERGE_WITHIN_MODALITY", "{true,false}",
          "merge text into text and images into images only (default: false)"}},
        {"visual_quota",
         {"--kv-visual-quota", "LLAMA_ARG_KV_VISUAL_QUOTA", "R",
          "least share of the cells kept for their attention that image cells get (default: 0.5 "
          "with lookm_plus,\n"
          "else 0)"}},
        {"seed", {"--kv-seed", "LLAMA_ARG_KV_SEED", "N", "seed of the method random (default: 0)"}},
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
                       "the most that a request may ask for by its field kv_ratio (default: 1)",
                       "LLAMA_ARG_KV_RATIO_MAX",
                       [](settings & s, const std::string & v) { parse(s.kv_ratio_max, v); }),
            with_value("kv_min_cells", "--kv-min-cells", "N",
                       "leave prompts alone that are shorter than this (default: 0)",
                       "LLAMA_ARG_KV_MIN_CELLS",
                       [](settings & s, const std::string & v) { parse(s.min_cells, v); }),
            with_value("kv_cells", "--kv-cells", "N",
                       "most KV cells of the cache, shared out evenly to the slots: longer prompts "
                       "are squeezed while\n"
                       "they are read, and -c is how many tokens each slot may have (default: as "
                       "many as -c names)",
                       "LLAMA_ARG_KV_CELLS",
                       [](settings & s, const std::string & v) { parse(s.kv_cells, v); }),
            with_value("kv_memory", "--kv-memory", "SIZE",
                       "the same in bytes of the KV buffers, such as 512MiB", "LLAMA_ARG_KV_MEMORY",
                       [](settings & s, const std::string & v) { s.kv_memory = parsed_bytes(v); }),
            with_value("allow_origin", "--allow-origin", "LIST",
                       "refuse what web pages send that are not of these origins, such as "
                       "https://chat.example.org,\n"
                       "with commas between them; self: this server's own page alone (default: any "
                       "page is served)",
                       "LLAMA_ARG_ALLOW_ORIGIN",
                       [](settings & /*s*/, const std::string & v) { allowed_origins().allow(v); }),
            with_value("image_max_pixels", "--image-max-pixels", "N",
                       "most pixels of an image, which is refused before it is decoded (default: " +
                           std::to_string(default_max_pixels) +
                           "\nwhere prompts may be compressed, else any number)",
                       "LLAMA_ARG_IMAGE_MAX_PIXELS",
                       [](settings & s, const std::string & v) { parse(s.image_max_pixels, v); }),
        };
        list.insert(list.end(), others.begin(), others.end());
        list.push_back(with_switch(
            "kv_on_request", "--kv-on-request",
            "keep all cells of a prompt unless its request asks for less by its field kv_ratio",
            "LLAMA_ARG_KV_ON_REQUEST", [](settings & s, bool on) { s.on_request = on; }));
        list.push_back(with_switch("kv_strict_reuse", "--kv-strict-reuse",
                                   "never reuse a compressed prompt as the prefix of another",
                                   "LLAMA_ARG_KV_STRICT_REUSE",
                                   [](settings & s, bool on) { s.strict_reuse = on; }));
        list.push_back(with_switch(
            "no_request_grammar", "--no-request-grammar",
            "refuse requests that bring a grammar, a JSON schema or tools: a short one can keep "
            "the\nserver busy for minutes",
            "LLAMA_ARG_NO_REQUEST_GRAMMAR",
            [](settings & s, bool on) { s.no_request_grammar = on; }));
        list.push_back(with_switch("check_files", "--no-check-files",
                                   "open a model and a projector that were not seen before at "
                                   "once, and not in a child process\n"
                                   "first, which a damaged one ends in the server's place",
                                   "LLAMA_ARG_NO_CHECK_FILES",
                                   [](settings & s, bool off) { s.checks.files = !off; }));
        list.push_back(with_switch("check_memory", "--no-check-memory",
                                   "start without comparing what model, projector and cache take "
                                   "with the memory that there is: where they\n"
                                   "do not fit, ggml ends the process",
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
    if (!bad) { // said by a child process, or none of an argument
        const size_t end = std::min(text.find(": "), text.size());
        return flag_of(text.substr(0, end)) + text.substr(end);
    }
    std::string flags; // of one option, or of several: "important_ratio + recent_ratio"
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
            std::replace(name.begin(), name.end(), '_', '-'); // as llama.cpp reads its own
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
    rest.push_back(nullptr); // as argv ends
    return rest;
}

void print_flags(int /*argc*/, char ** /*argv*/) {
    std::printf("\n\n----- KV compression params (lookm) -----\n\n");
    for (const flag & f : flags()) {
        std::printf("%s", f.help.to_string().c_str());
    }
}

} // namespace lookm::server
