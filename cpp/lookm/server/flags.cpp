#include "lookm/server/flags.h"

#include "lookm/core/bad_argument.h"
#include "lookm/core/byte_size.h"
#include "lookm/core/compression.h"
#include "lookm/server/origins.h"
#include "lookm/server/settings.h"

#include "arg.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <optional>
#include <stdexcept>

namespace lookm::server {

namespace {

// A flag of ours: what llama.cpp's own help needs of it, the option that it sets, and how.
struct flag {
    std::string option; // as errors name it (bad_argument)
    common_arg help;
    std::function<void(settings &, const std::string &)> set;
};

double number(const std::string & text) {
    size_t end = 0;
    double value = 0.0;
    try {
        value = std::stod(text, &end);
    } catch (const std::exception &) {
        end = 0;
    }
    if (end == 0 || end != text.size()) {
        throw std::invalid_argument("\"" + text + "\" is not a number");
    }
    return value;
}

int32_t whole_number(const std::string & text) {
    const double value = number(text);
    if (!(std::abs(value) < 1e9) || value != std::floor(value)) {
        throw std::invalid_argument("\"" + text + "\" is not a whole number");
    }
    return static_cast<int32_t>(value);
}

int64_t bytes(const std::string & text) {
    const auto found = parse_bytes(text);
    if (!found) {
        throw std::invalid_argument("\"" + text + "\", expected bytes such as 512MiB, 8GiB or 16GB");
    }
    return *found;
}

bool truth(const std::string & text) {
    if (common_arg_utils::is_truthy(text) || common_arg_utils::is_falsey(text)) {
        return common_arg_utils::is_truthy(text);
    }
    throw std::invalid_argument("\"" + text + "\" is neither true nor false");
}

std::string method_names() {
    std::string names;
    for (const method & m : methods()) {
        names += (names.empty() ? "" : ", ") + std::string(m.name);
    }
    return names;
}

void parse(double & value, const std::string & text) {
    value = number(text);
}

void parse(int32_t & value, const std::string & text) {
    value = whole_number(text);
}

void parse(uint32_t & value, const std::string & text) {
    const int32_t whole = whole_number(text);
    if (whole < 0) {
        throw std::invalid_argument("\"" + text + "\", expected 0 or more");
    }
    value = static_cast<uint32_t>(whole);
}

void parse(bool & value, const std::string & text) {
    value = truth(text);
}

void parse(std::string & value, const std::string & text) {
    value = text;
}

template <class T>
void parse(std::optional<T> & value, const std::string & text) {
    parse(value.emplace(), text);
}

flag with_value(const char * option, const char * name, const char * hint, const std::string & help, const char * env,
                std::function<void(settings &, const std::string &)> set) {
    common_arg arg({name}, hint, help, [](common_params &, const std::string &) {});
    return {option, arg.set_env(env), std::move(set)};
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
          "share kept for the attention it received (default: 0.9 of --kv-ratio, half of it with all methods but\n"
          "lookm_plus)"}},
        {"recent_ratio",
         {"--kv-recent-ratio", "LLAMA_ARG_KV_RECENT_RATIO", "R",
          "share kept as the last of the prompt (default: the rest of --kv-ratio)"}},
        {"text_overflow",
         {"--kv-text-overflow", "LLAMA_ARG_KV_TEXT_OVERFLOW", "{keep,evict}",
          "when text alone exceeds the share: keep all of it, or evict down to the share (default: evict with "
          "lookm_plus, else keep)"}},
        {"fidelity",
         {"--kv-fidelity", "LLAMA_ARG_KV_FIDELITY", "{paper,upstream}",
          "where LOOK-M's paper and its published code differ: which of them holds (default: paper)"}},
        {"scorer",
         {"--kv-scorer", "LLAMA_ARG_KV_SCORER", "{cumulative,window,none}",
          "whose attention cells are judged by: all queries', the last ones', or nobody's (default: the method's)"}},
        {"window",
         {"--kv-window", "LLAMA_ARG_KV_WINDOW", "N",
          "queries of the window scorer (default: the method's, or the text after the last image)"}},
        {"merge_keys",
         {"--kv-merge-keys", "LLAMA_ARG_KV_MERGE_KEYS", "{true,false}",
          "merge evicted keys as values are merged, or leave the kept keys as they are (default: true)"}},
        {"merge_within_modality",
         {"--kv-merge-within-modality", "LLAMA_ARG_KV_MERGE_WITHIN_MODALITY", "{true,false}",
          "merge text into text and images into images only (default: false)"}},
        {"visual_quota",
         {"--kv-visual-quota", "LLAMA_ARG_KV_VISUAL_QUOTA", "R",
          "least share of the cells kept for their attention that image cells get (default: 0.5 with lookm_plus,\n"
          "else 0)"}},
        {"seed", {"--kv-seed", "LLAMA_ARG_KV_SEED", "N", "seed of the method random (default: 0)"}},
    };
    return all;
}

const std::vector<flag> & flags() {
    static const std::vector<flag> all = [] {
        std::vector<flag> list;
        for_each_field(static_cast<compression *>(nullptr), [&list](const char * option, auto member) {
            const field_flag & f = compression_flags().at(option);
            list.push_back(with_value(option, f.name, f.hint, f.help, f.env,
                                      [member](settings & s, const std::string & v) { parse(s.how.*member, v); }));
        });
        const std::vector<flag> others = {
            with_value("kv_ratio_max", "--kv-ratio-max", "R",
                       "the most that a request may ask for by its field kv_ratio (default: 1)",
                       "LLAMA_ARG_KV_RATIO_MAX",
                       [](settings & s, const std::string & v) { s.kv_ratio_max = number(v); }),
            with_value("kv_min_cells", "--kv-min-cells", "N",
                       "leave prompts alone that are shorter than this (default: 0)", "LLAMA_ARG_KV_MIN_CELLS",
                       [](settings & s, const std::string & v) { s.min_cells = whole_number(v); }),
            with_value("kv_cells", "--kv-cells", "N",
                       "most KV cells of the cache, shared out evenly to the slots: longer prompts are squeezed while\n"
                       "they are read, and -c is how many tokens each slot may have (default: as many as -c names)",
                       "LLAMA_ARG_KV_CELLS", [](settings & s, const std::string & v) { s.kv_cells = whole_number(v); }),
            with_value("kv_memory", "--kv-memory", "SIZE", "the same in bytes of the KV buffers, such as 512MiB",
                       "LLAMA_ARG_KV_MEMORY", [](settings & s, const std::string & v) { s.kv_memory = bytes(v); }),
            with_value("allow_origin", "--allow-origin", "LIST",
                       "refuse what web pages send that are not of these origins, such as https://chat.example.org,\n"
                       "with commas between them; self: this server's own page alone (default: any page is served)",
                       "LLAMA_ARG_ALLOW_ORIGIN",
                       [](settings & /*s*/, const std::string & v) { allowed_origins().allow(v); }),
            with_value("image_max_pixels", "--image-max-pixels", "N",
                       "most pixels of an image, which is refused before it is decoded (default: " +
                           std::to_string(default_max_pixels) + "\nwhere prompts may be compressed, else any number)",
                       "LLAMA_ARG_IMAGE_MAX_PIXELS",
                       [](settings & s, const std::string & v) { s.image_max_pixels = whole_number(v); }),
        };
        list.insert(list.end(), others.begin(), others.end());
        common_arg on_request({"--kv-on-request"},
                              "keep all cells of a prompt unless its request asks for less by its field kv_ratio", //
                              [](common_params &) {});
        list.push_back({"kv_on_request", on_request.set_env("LLAMA_ARG_KV_ON_REQUEST"),
                        [](settings & s, const std::string & v) { s.on_request = truth(v); }});
        common_arg strict({"--kv-strict-reuse"}, "never reuse a compressed prompt as the prefix of another", //
                          [](common_params &) {});
        list.push_back({"kv_strict_reuse", strict.set_env("LLAMA_ARG_KV_STRICT_REUSE"),
                        [](settings & s, const std::string & v) { s.strict_reuse = truth(v); }});
        common_arg no_grammar({"--no-request-grammar"},
                              "refuse requests that bring a grammar, a JSON schema or tools: a short one can keep the\n"
                              "server busy for minutes", //
                              [](common_params &) {});
        list.push_back({"no_request_grammar", no_grammar.set_env("LLAMA_ARG_NO_REQUEST_GRAMMAR"),
                        [](settings & s, const std::string & v) { s.no_request_grammar = truth(v); }});
        common_arg no_check(
            {"--no-check-files"},
            "open a model and a projector that were not seen before at once, and not in a child process\n"
            "first, which a damaged one ends in the server's place", //
            [](common_params &) {});
        list.push_back({"check_files", no_check.set_env("LLAMA_ARG_NO_CHECK_FILES"),
                        [](settings & s, const std::string & v) { s.check_files = !truth(v); }});
        common_arg no_memory(
            {"--no-check-memory"},
            "start without comparing what model, projector and cache take with the memory that there is: where they\n"
            "do not fit, ggml ends the process", //
            [](common_params &) {});
        list.push_back({"check_memory", no_memory.set_env("LLAMA_ARG_NO_CHECK_MEMORY"),
                        [](settings & s, const std::string & v) { s.check_memory = !truth(v); }});
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
        f.set(current(), value);
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
    const auto own = std::find_if(flags().begin(), flags().end(), [&](const flag & f) { return f.option == option; });
    if (own != flags().end()) {
        return own->help.args.front();
    }
    const auto found = of_llama_cpp.find(option);
    return found == of_llama_cpp.end() ? option : found->second;
}

std::string with_flag(const std::exception & error) {
    const auto * const bad = dynamic_cast<const bad_argument *>(&error);
    if (!bad) { // said by a child process, or none of an argument
        const std::string text = error.what();
        const size_t end = std::min(text.find(": "), text.size());
        return flag_of(text.substr(0, end)) + text.substr(end);
    }
    std::string names; // of one option, or of several: "important_ratio + recent_ratio"
    for (size_t at = 0; at < bad->name.size();) {
        const size_t end = std::min(bad->name.find_first_of(" ,", at), bad->name.size());
        names += flag_of(bad->name.substr(at, end - at));
        for (at = end; at < bad->name.size() && std::string(" ,+").find(bad->name[at]) != std::string::npos; ++at) {
            names += bad->name[at];
        }
    }
    return names + ": " + bad->reason;
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
        const auto found =
            std::find_if(flags().begin(), flags().end(), [&](const flag & f) { return name == f.help.args.front(); });
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
        current().check();
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
