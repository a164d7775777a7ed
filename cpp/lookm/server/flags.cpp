#include "lookm/server/flags.h"

#include "lookm/server/origins.h"
#include "lookm/server/settings.h"

#include "arg.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <stdexcept>

namespace lookm::server {

namespace {

// What of a flag llama.cpp's own help needs, and what we do with its value.
struct flag {
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
    static const std::map<std::string, double> units = {
        {"", 1},         {"b", 1},    {"kib", 0x1p10}, {"mib", 0x1p20}, {"gib", 0x1p30},
        {"tib", 0x1p40}, {"kb", 1e3}, {"mb", 1e6},     {"gb", 1e9},     {"tb", 1e12}};
    const size_t end = std::min(text.find_first_not_of("0123456789."), text.size());
    std::string unit = text.substr(end);
    std::transform(unit.begin(), unit.end(), unit.begin(), [](unsigned char c) { return std::tolower(c); });
    const auto found = units.find(unit);
    const double value = found == units.end() || end == 0 ? 0.0 : number(text.substr(0, end)) * found->second;
    if (!(value >= 1.0 && value < 0x1p62)) {
        throw std::invalid_argument("\"" + text + "\", expected bytes such as 512MiB, 8GiB or 16GB");
    }
    return static_cast<int64_t>(value);
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

flag with_value(const char * name, const char * hint, const std::string & help, const char * env,
                std::function<void(settings &, const std::string &)> set) {
    common_arg arg({name}, hint, help, [](common_params &, const std::string &) {});
    return {arg.set_env(env), std::move(set)};
}

const std::vector<flag> & flags() {
    static const std::vector<flag> all = [] {
        std::vector<flag> list = {
            with_value("--kv-ratio", "R",
                       "share of a prompt's KV cells to keep, in (0, 1]; 1 compresses nothing (default: 1)",
                       "LLAMA_ARG_KV_RATIO", [](settings & s, const std::string & v) { s.kv_ratio = number(v); }),
            with_value("--kv-ratio-max", "R", "the most that a request may ask for by its field kv_ratio (default: 1)",
                       "LLAMA_ARG_KV_RATIO_MAX",
                       [](settings & s, const std::string & v) { s.kv_ratio_max = number(v); }),
            with_value("--kv-method", "NAME",
                       "how to compress (default: " + settings().method + ")\none of " + method_names(),
                       "LLAMA_ARG_KV_METHOD", [](settings & s, const std::string & v) { s.method = v; }),
            with_value("--kv-important-ratio", "R",
                       "share kept for the attention it received (default: 0.9 of --kv-ratio, half of it with all "
                       "methods but\n"
                       "lookm_plus)",
                       "LLAMA_ARG_KV_IMPORTANT_RATIO",
                       [](settings & s, const std::string & v) { s.important_ratio = number(v); }),
            with_value(
                "--kv-recent-ratio", "R", "share kept as the last of the prompt (default: the rest of --kv-ratio)",
                "LLAMA_ARG_KV_RECENT_RATIO", [](settings & s, const std::string & v) { s.recent_ratio = number(v); }),
            with_value("--kv-text-overflow", "{keep,evict}",
                       "when text alone exceeds the share: keep all of it, or evict down to the share (default: "
                       "evict with lookm_plus, else keep)",
                       "LLAMA_ARG_KV_TEXT_OVERFLOW", [](settings & s, const std::string & v) { s.text_overflow = v; }),
            with_value("--kv-min-cells", "N", "leave prompts alone that are shorter than this (default: 0)",
                       "LLAMA_ARG_KV_MIN_CELLS",
                       [](settings & s, const std::string & v) { s.min_cells = whole_number(v); }),
            with_value("--kv-cells", "N",
                       "most KV cells of the cache, shared out evenly to the slots: longer prompts are squeezed while\n"
                       "they are read, and -c is how many tokens each slot may have (default: as many as -c names)",
                       "LLAMA_ARG_KV_CELLS", [](settings & s, const std::string & v) { s.kv_cells = whole_number(v); }),
            with_value("--kv-memory", "SIZE", "the same in bytes of the KV buffers, such as 512MiB",
                       "LLAMA_ARG_KV_MEMORY", [](settings & s, const std::string & v) { s.kv_memory = bytes(v); }),
            with_value("--allow-origin", "LIST",
                       "refuse what web pages send that are not of these origins, such as https://chat.example.org,\n"
                       "with commas between them; self: this server's own page alone (default: any page is served)",
                       "LLAMA_ARG_ALLOW_ORIGIN",
                       [](settings & /*s*/, const std::string & v) { allowed_origins().allow(v); }),
            with_value("--image-max-pixels", "N",
                       "most pixels of an image, which is refused before it is decoded (default: " +
                           std::to_string(default_max_pixels) + "\nwhere prompts may be compressed, else any number)",
                       "LLAMA_ARG_IMAGE_MAX_PIXELS",
                       [](settings & s, const std::string & v) { s.image_max_pixels = whole_number(v); }),
        };
        common_arg on_request({"--kv-on-request"},
                              "keep all cells of a prompt unless its request asks for less by its field kv_ratio", //
                              [](common_params &) {});
        list.push_back({on_request.set_env("LLAMA_ARG_KV_ON_REQUEST"),
                        [](settings & s, const std::string & v) { s.on_request = truth(v); }});
        common_arg strict({"--kv-strict-reuse"}, "never reuse a compressed prompt as the prefix of another", //
                          [](common_params &) {});
        list.push_back({strict.set_env("LLAMA_ARG_KV_STRICT_REUSE"),
                        [](settings & s, const std::string & v) { s.strict_reuse = truth(v); }});
        common_arg no_grammar({"--no-request-grammar"},
                              "refuse requests that bring a grammar, a JSON schema or tools: a short one can keep the\n"
                              "server busy for minutes", //
                              [](common_params &) {});
        list.push_back({no_grammar.set_env("LLAMA_ARG_NO_REQUEST_GRAMMAR"),
                        [](settings & s, const std::string & v) { s.no_request_grammar = truth(v); }});
        common_arg no_check(
            {"--no-check-files"},
            "open a model and a projector that were not seen before at once, and not in a child process\n"
            "first, which a damaged one ends in the server's place", //
            [](common_params &) {});
        list.push_back({no_check.set_env("LLAMA_ARG_NO_CHECK_FILES"),
                        [](settings & s, const std::string & v) { s.check_files = !truth(v); }});
        common_arg no_memory(
            {"--no-check-memory"},
            "start without comparing what model, projector and cache take with the memory that there is: where they\n"
            "do not fit, ggml ends the process", //
            [](common_params &) {});
        list.push_back({no_memory.set_env("LLAMA_ARG_NO_CHECK_MEMORY"),
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

std::string as_flags(std::string text) {
    static constexpr const char * names[][2] = {
        {"kv_ratio_max", "--kv-ratio-max"},
        {"important_ratio", "--kv-important-ratio"},
        {"recent_ratio", "--kv-recent-ratio"},
        {"kv_min_cells", "--kv-min-cells"},
        {"text_overflow", "--kv-text-overflow"},
        {"kv_ratio", "--kv-ratio"},
        {"kv_on_request", "--kv-on-request"},
        {"image_max_pixels", "--image-max-pixels"},
        {"method: \"", "--kv-method: \""},
        {"kv_cells", "--kv-cells"},
        {"kv_memory", "--kv-memory"},
        {"type_k", "--cache-type-k"},
        {"type_v", "--cache-type-v"},
        {"flash_attn", "--flash-attn"},
    };
    for (const auto & [from, to] : names) {
        for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + std::string(to).size())) {
            text.replace(at, std::string(from).size(), to);
        }
    }
    return text;
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
        throw std::invalid_argument(as_flags(error.what()));
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
