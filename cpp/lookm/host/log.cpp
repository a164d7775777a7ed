#include "lookm/host/log.h"

#include "llama.h"
#include "mtmd-helper.h"

#include <atomic>
#include <cstdio>
#include <mutex>

namespace lookm {

namespace {

std::atomic<bool> verbose_log = false;
std::mutex error_mutex;
thread_local std::vector<std::string> * heard = nullptr; // see log_lines
std::string error_line; // the first error: later ones are usually its consequences

void on_log(ggml_log_level level, const char * text, void * /*user_data*/) {
    if (verbose_log) {
        std::fputs(text, stderr);
    }
    if (heard) {
        heard->emplace_back(text);
    }
    if (level == GGML_LOG_LEVEL_ERROR) {
        const std::lock_guard lock(error_mutex);
        if (error_line.empty()) {
            error_line = text;
            error_line.erase(error_line.find_last_not_of("\n ") + 1);
        }
    }
}

} // namespace

void set_verbose(bool verbose) {
    verbose_log = verbose;
    llama_log_set(on_log, nullptr); // sets ggml's as well
    mtmd_helper_log_set(on_log, nullptr);
}

bool is_verbose() {
    return verbose_log;
}

std::string last_logged_error() {
    const std::lock_guard lock(error_mutex);
    return error_line.empty() ? "no further detail" : error_line;
}

log_kept::log_kept() {
    llama_log_get(&callback_, &user_data_);
}

log_kept::~log_kept() {
    llama_log_set(callback_, user_data_);
    mtmd_helper_log_set(callback_, user_data_);
}

log_lines::log_lines() {
    heard = &lines_;
}

log_lines::~log_lines() {
    heard = nullptr;
}

void forget_errors() {
    const std::lock_guard lock(error_mutex);
    error_line.clear();
}

} // namespace lookm
