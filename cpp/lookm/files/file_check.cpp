#include "lookm/files/file_check.h"

#include "lookm/files/file_trial.h"
#include "lookm/host/out_of_memory.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <sstream>
#include <stdexcept>

#if !defined(_WIN32)
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

extern char ** environ;
#endif

namespace lookm {

#if defined(_WIN32)

void check_files(const model_files & /*files*/, const file_tester & /*tester*/) {}

#else

namespace {

constexpr int tick_ms = 100;
constexpr int its_end = 3;                  // the child's end of the pipe
constexpr double least_seconds = 60;        // for computing, on a machine that may be busy
constexpr double bytes_a_second = 20 << 20; // speed of a slow disk

double most_seconds(const model_files & files) {
    if (const char * given = std::getenv("LOOKM_CHECK_SECONDS")) {
        return std::atof(given);
    }
    double bytes = 0;
    for (const std::string & path : files.all()) {
        std::error_code error;
        const auto size = std::filesystem::file_size(path, error);
        bytes += error ? 0.0 : static_cast<double>(size);
    }
    return least_seconds + bytes / bytes_a_second;
}

std::string cannot_start(const file_tester & tester, const std::string & why) {
    return "model_path: it is opened in a child process first, but \"" + tester.command.front() +
           "\" cannot be started: " + why + "; " + tester.instead +
           " skips this for files that you trust";
}

// Runs a program that writes to a pipe; the destructor ends it.
class child {
  public:
    child(const file_tester & tester, const model_files & files) {
        int ends[2];
        if (pipe(ends) != 0) {
            throw std::runtime_error(cannot_start(tester, std::strerror(errno)));
        }
        for (int & end : ends) { // not the number that the child's end gets
            const int moved = fcntl(end, F_DUPFD_CLOEXEC, its_end + 1);
            close(end);
            end = moved;
        }
        from_ = ends[0];
        std::vector<std::string> command = tester.command;
        command.insert(command.end(), {files.model, files.projector, std::to_string(its_end)});
        std::vector<char *> words;
        for (std::string & word : command) {
            words.push_back(word.data());
        }
        words.push_back(nullptr);
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
        posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
        posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
        posix_spawn_file_actions_adddup2(&actions, ends[1], its_end);
        const int error =
            posix_spawnp(&id_, words.front(), &actions, nullptr, words.data(), environ);
        posix_spawn_file_actions_destroy(&actions);
        close(ends[1]);
        if (error != 0) {
            close(from_);
            throw std::runtime_error(cannot_start(tester, std::strerror(error)));
        }
    }
    ~child() {
        if (id_ > 0) {
            kill(id_, SIGKILL);
            wait();
        }
        close(from_);
    }
    child(const child &) = delete;
    child & operator=(const child &) = delete;

    // Appends what arrives within tick_ms. Returns false at the end of the pipe.
    bool read(std::string & text) const {
        pollfd readable = {from_, POLLIN, 0};
        if (poll(&readable, 1, tick_ms) <= 0) {
            return true;
        }
        char bytes[4096];
        const ssize_t n = ::read(from_, bytes, sizeof(bytes));
        if (n > 0) {
            text.append(bytes, static_cast<size_t>(n));
        }
        return n > 0 || (n < 0 && errno == EINTR);
    }

    // Waits for the program to end and returns its wait status, or 0 if that was taken by other
    // code.
    int wait() {
        while (id_ > 0 && waitpid(id_, &status_, 0) < 0 && errno == EINTR) {
        }
        id_ = 0;
        return status_;
    }

  private:
    pid_t id_ = 0;
    int from_ = -1;
    int status_ = 0;
};

// The lines that the child has written.
struct report {
    bool started = false;
    std::string step = trial::model; // the last step that it began
    std::string verdict, text;
    std::vector<std::pair<std::string, std::string>> doubts; // each with its step

    explicit report(const std::string & written) {
        size_t at = 0;
        for (size_t end; (end = written.find('\n', at)) != std::string::npos; at = end + 1) {
            const std::string line = written.substr(at, end - at);
            const size_t space = std::min(line.find(' '), line.size());
            const std::string word = line.substr(0, space);
            started = true;
            if (word == trial::model || word == trial::projector || word == trial::both) {
                step = word;
            } else if (word == trial::doubt) {
                doubts.emplace_back(step, line.substr(std::min(space + 1, line.size())));
            } else if (verdict.empty()) {
                verdict = word;
                text = line.substr(std::min(space + 1, line.size()));
            }
        }
    }

    // The doubts about the file of the last step, to be added to an error message.
    std::string doubted() const {
        std::string all;
        for (const auto & [about, doubt] : doubts) {
            all += step == trial::both || step == about ? "; " + doubt : "";
        }
        return all;
    }

    std::string named(const model_files & files) const {
        const std::string model = "model_path: \"" + files.model + "\"";
        return step == trial::model ? model
               : step == trial::projector
                   ? "mmproj: \"" + files.projector + "\""
                   : "mmproj: \"" + files.projector + "\" with \"" + files.model + "\"";
    }
};

std::string run(const model_files & files, const file_tester & tester, bool & in_time,
                int & status) {
    child c(tester, files);
    const auto until =
        std::chrono::steady_clock::now() + std::chrono::duration<double>(most_seconds(files));
    std::string written;
    while (c.read(written)) {
        if (tester.tick) {
            tester.tick();
        }
        if (std::chrono::steady_clock::now() > until) {
            in_time = false;
            return written;
        }
    }
    status = c.wait();
    return written;
}

} // namespace

void check_files(const model_files & files, const file_tester & tester) {
    if (checked_files::holds(files)) {
        return;
    }
    bool in_time = true;
    int status = 0;
    const report found(run(files, tester, in_time, status));
    if (!in_time) {
        std::ostringstream seconds;
        seconds << most_seconds(files);
        throw std::invalid_argument(
            found.named(files) + " was opened in a child process, which was still busy after " +
            seconds.str() + " seconds; expected an undamaged GGUF file, or " + tester.instead +
            " for one that you trust" + found.doubted());
    }
    if (found.verdict == trial::good) {
        checked_files::add(files);
    } else if (found.verdict == trial::refused) {
        const bool named =
            found.text.find(files.model) != std::string::npos ||
            (!files.projector.empty() && found.text.find(files.projector) != std::string::npos);
        throw std::invalid_argument(
            (named ? found.text : found.named(files) + " cannot be used: " + found.text) +
            found.doubted());
    } else if (found.verdict == trial::memory ||
               (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)) {
        throw out_of_memory(found.named(files) + " does not fit into memory: " +
                            (found.text.empty()
                                 ? "the system ended the child process that opened it"
                                 : found.text) +
                            found.doubted());
    } else if (found.verdict == trial::ended) {
        throw std::invalid_argument(
            found.named(files) + " cannot be used, as llama.cpp ends the process: " + found.text +
            found.doubted());
    } else if (WIFSIGNALED(status)) {
        throw std::invalid_argument(found.named(files) +
                                    " cannot be used, as it ends the process by a signal: " +
                                    strsignal(WTERMSIG(status)) + found.doubted());
    } else {
        throw std::runtime_error(cannot_start(tester, "it ended without a result, with status " +
                                                          std::to_string(WEXITSTATUS(status))));
    }
}

#endif

} // namespace lookm
