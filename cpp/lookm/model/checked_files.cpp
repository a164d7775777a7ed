#include "lookm/model/checked_files.h"

#include "lookm/core/hashes.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <regex>
#include <string_view>

namespace lookm {

namespace {

namespace fs = std::filesystem;

constexpr size_t n_first_bytes = 64 << 10;

const char * environment(const char * name) {
    const char * value = std::getenv(name);
    return value && *value ? value : nullptr;
}

std::optional<fs::path> folder() {
#if defined(_WIN32)
    if (const char * local = environment("LOCALAPPDATA")) {
        return fs::path(local) / "lookm_cpp" / "checked";
    }
#else
    if (const char * cache = environment("XDG_CACHE_HOME");
        cache && fs::path(cache).is_absolute()) {
        return fs::path(cache) / "lookm_cpp" / "checked";
    }
    if (const char * home = environment("HOME")) {
        return fs::path(home) / ".cache" / "lookm_cpp" / "checked";
    }
#endif
    return std::nullopt;
}

std::optional<fs::path> mark_of(const model_files & files) {
    std::optional<fs::path> path = folder();
    if (path) {
        std::array<char, 17> name = {};
        std::snprintf(name.data(), name.size(), "%016llx",
                      static_cast<unsigned long long>(files.stamp()));
        *path /= name.data();
    }
    return path;
}

} // namespace

std::vector<std::string> model_files::all() const {
    std::vector<std::string> out = {model};
    static const std::regex first("(.*)-00001-of-([0-9]{5})\\.gguf"); // as llama.cpp names parts
    std::smatch found;
    if (std::regex_match(model, found, first)) {
        const int n = std::stoi(found[2]);
        for (int i = 2; i <= n; ++i) {
            std::array<char, 32> end = {};
            std::snprintf(end.data(), end.size(), "-%05d-of-%05d.gguf", i, n);
            out.push_back(found[1].str() + end.data());
        }
    }
    if (!projector.empty()) {
        out.push_back(projector);
    }
    return out;
}

uint64_t model_files::stamp() const {
    // Whoever can craft a colliding file could as well change bytes after the first 64 KiB of a
    // known one.
    fnv hash;
    hash.add(LOOKM_VERSIONS);
    for (const std::string & name : all()) {
        std::error_code error; // a missing part is reported when the model is loaded
        const fs::path path = fs::absolute(name, error);
        hash.add(path.string());
        hash.add(static_cast<int64_t>(fs::file_size(path, error)));
        hash.add(static_cast<int64_t>(fs::last_write_time(path, error).time_since_epoch().count()));
        std::string bytes(n_first_bytes, '\0');
        std::ifstream file(path, std::ios::binary);
        file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
        hash.add({bytes.data(), static_cast<size_t>(std::max<std::streamsize>(0, file.gcount()))});
    }
    return hash.get();
}

bool checked_files::holds(const model_files & files) {
    const std::optional<fs::path> mark = mark_of(files);
    std::error_code error;
    return mark && fs::is_regular_file(*mark, error);
}

void checked_files::add(const model_files & files) {
    const std::optional<fs::path> mark = mark_of(files);
    if (!mark) {
        return;
    }
    std::error_code error;
    fs::create_directories(mark->parent_path(), error);
    std::ofstream file(*mark); // only the file's name counts, its text is for human readers
    file << files.model << "\n" << files.projector << "\n";
}

} // namespace lookm
