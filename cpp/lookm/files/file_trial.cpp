#include "lookm/files/file_trial.h"

#include "lookm/core/bad_argument.h"
#include "lookm/files/file_doubts.h"
#include "lookm/host/log.h"
#include "lookm/host/out_of_memory.h"
#include "lookm/model/checked_files.h"
#include "lookm/prompt/dry_encoder.h"
#include "lookm/session/memory_check.h"
#include "lookm/session/session.h"

#include "mtmd-helper.h"

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <new>
#include <stdexcept>

#if defined(_WIN32)
#include <io.h>
#else
#include <sys/resource.h>
#include <unistd.h>
#endif
#if defined(__linux__)
#include <sys/prctl.h>
#endif

namespace lookm {

namespace {

constexpr image_size small = {96, 96};
constexpr image_size wide = {1344, 768}; // several pieces, if the projector cuts images
constexpr int32_t few_cells = 2;

int out = 1; // the pipe; global, as signal handlers and ggml's callbacks need it

void tell(const char * word, std::string text = "") {
    for (char & c : text) {
        c = c == '\n' || c == '\r' ? ' ' : c;
    }
    const std::string line = std::string(word) + " " + text + "\n";
    static_cast<void>(!write(out, line.data(), static_cast<unsigned>(line.size())));
}

// Call before llama.cpp opens the file, so that the doubts are reported even if it ends the
// process.
void tell_doubts(const std::vector<std::string> & parts) {
    for (const std::string & doubt : doubts_of(parts)) {
        tell(trial::doubt, doubt);
    }
    forget_errors();
}

[[noreturn]] void end(const char * word, const std::string & text = "") {
    tell(word, text);
    std::_Exit(0);
}

// Called with ggml's message before it aborts, "folder/file.c:12: text"; reports it without the
// folder.
void on_abort(const char * message) {
    std::string said = message;
    const size_t slash = said.rfind('/', said.find(": "));
    said.erase(0, slash == std::string::npos ? 0 : slash + 1);
    const std::string error = last_logged_error();
    end(speaks_of_memory(said) || speaks_of_memory(error) ? trial::memory : trial::ended, said);
}

[[noreturn]] void on_terminate() {
    try {
        if (std::exception_ptr thrown = std::current_exception()) {
            std::rethrow_exception(thrown);
        }
    } catch (const std::bad_alloc &) {
        end(trial::memory, "an allocation failed");
    } catch (const std::exception & error) {
        end(trial::ended, error.what());
    } catch (...) {
    }
    end(trial::ended, "an uncaught exception");
}

#if !defined(_WIN32)
void on_signal(int number) {
    // only functions that a signal handler may call
    const char * text = number == SIGFPE    ? "ended division by zero\n"
                        : number == SIGSEGV ? "ended invalid memory access (SIGSEGV)\n"
                        : number == SIGBUS  ? "ended access to missing memory (SIGBUS)\n"
                        : number == SIGILL
                            ? "ended an instruction that this CPU does not have (SIGILL)\n"
                            : "ended abort()\n";
    static_cast<void>(!write(out, text, std::strlen(text)));
    _exit(0);
}
#endif

void catch_ends() {
    ggml_set_abort_callback(on_abort);
    std::set_terminate(on_terminate);
#if !defined(_WIN32)
#if defined(__linux__)
    prctl(PR_SET_PDEATHSIG, SIGKILL); // without the parent, its result is of no use
#endif
    const rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    static char stack[64 << 10]; // endless recursion leaves no space on the usual stack
    stack_t other = {};
    other.ss_sp = stack;
    other.ss_size = sizeof(stack);
    sigaltstack(&other, nullptr);
    struct sigaction action = {};
    action.sa_handler = on_signal;
    action.sa_flags = SA_ONSTACK;
    for (const int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT}) {
        sigaction(number, &action, nullptr);
    }
#endif
}

image_source grey(const image_size & size) {
    return [size] {
        const std::vector<uint8_t> pixels(size_t(3) * size.width * size.height, 128);
        return mtmd::bitmap(size.width, size.height, pixels.data());
    };
}

prompt picture_prompt(const llama_model * model, const mtmd_context * mmproj,
                      const prompt_markers & markers, const image_size & size) {
    const image_source picture = grey(size);
    return tokenize(model, mmproj, "a" + markers.image + "b", markers, {&picture, 1}, {});
}

const prompt_chunk & first_picture(const prompt & p) {
    return *std::find_if(p.chunks.begin(), p.chunks.end(),
                         [](const prompt_chunk & c) { return c.image != nullptr; });
}

void check_numbers(const char * what, const float * numbers, size_t n) {
    if (!numbers || std::any_of(numbers, numbers + n, [](float x) { return std::isnan(x); })) {
        throw std::invalid_argument(std::string(what) + " contain NaN");
    }
}

class files_trial {
  public:
    explicit files_trial(const model_options & options)
        : options_(options), markers_(random_markers()) {}

    void run() {
        tell(trial::model);
        tell_doubts(model_files{options_.model_path, ""}.all());
        check_memory(options_);
        model_ = load_model(options_, devices_);
        room_ = std::make_unique<sized_context>(model_.get(), options_);
        if (llama_model_has_encoder(model_.get()) || !llama_get_memory(room_->get())) {
            return; // sessions reject it, and llama-server handles it in another way
        }
        read_text();
        if (options_.mmproj_path.empty()) {
            return;
        }
        tell(trial::projector);
        tell_doubts({options_.mmproj_path});
        cut_pictures();
        tell(trial::both);
        read_picture();
    }

  private:
    void read_text() {
        const std::vector<llama_token> tokens =
            tokenize(model_.get(), nullptr, "Hi 1", markers_, {}, {}).chunks.at(0).tokens;
        const int32_t n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model_.get()));
        decode(tokens);
        const float * logits = llama_get_logits_ith(room_->get(), -1);
        check_numbers("its answers", logits, static_cast<size_t>(n_vocab));
        const auto best =
            static_cast<llama_token>(std::max_element(logits, logits + n_vocab) - logits);
        decode({best});
        room_->clear();
    }

    void decode(std::vector<llama_token> tokens) {
        forget_errors();
        if (llama_decode(room_->get(),
                         llama_batch_get_one(tokens.data(), static_cast<int32_t>(tokens.size()))) !=
            0) {
            throw bad_argument("model_path", "\"" + options_.model_path +
                                                 "\" cannot be run: " + last_logged_error());
        }
    }

    // Without weights: builds and reserves the graphs of all pieces of a large image
    void cut_pictures() {
        model_options dry = options_;
        dry.no_alloc = true;
        dry_encoder encoder(model_.get(), dry, markers_.image);
        try {
            encoder.measure(picture_prompt(model_.get(), encoder.get(), markers_, wide));
        } catch (const std::logic_error &) {
            // sessions will reject large images in the same way, but small ones may work
        }
    }

    void read_picture() {
        const mtmd::context_ptr mmproj = load_mmproj(model_.get(), options_, markers_.image);
        const prompt p = picture_prompt(model_.get(), mmproj.get(), markers_, small);
        const prompt_chunk & picture = first_picture(p);
        forget_errors();
        if (mtmd_encode_chunk(mmproj.get(), picture.image) != 0) {
            throw std::invalid_argument("mmproj: \"" + options_.mmproj_path +
                                        "\" cannot encode an image: " + last_logged_error());
        }
        float * cells = mtmd_get_output_embd(mmproj.get());
        check_numbers("the embeddings of its images", cells,
                      static_cast<size_t>(picture.n_cells()) *
                          llama_model_n_embd_inp(model_.get()));
        bool read = false;
        const auto after_a_few = [](const mtmd_helper_embd_batch *, void * done) {
            *static_cast<bool *>(done) = true;
            return 1; // stop after the first cells
        };
        llama_pos n_past = 0;
        mtmd_helper_decode_image_chunk(mmproj.get(), room_->get(), picture.image, cells, 0, 0,
                                       few_cells, &n_past, after_a_few, &read);
        if (!read) {
            throw std::invalid_argument("mmproj: images encoded by \"" + options_.mmproj_path +
                                        "\" cannot be read by \"" + options_.model_path +
                                        "\": " + last_logged_error());
        }
    }

    model_options options_;
    prompt_markers markers_;
    device_list devices_;
    llama_model_ptr model_;
    std::unique_ptr<sized_context> room_;
};

} // namespace

void try_files(const std::string & model_path, const std::string & mmproj_path, int pipe) {
    out = pipe;
    catch_ends();
    model_options options;
    options.model_path = model_path;
    options.mmproj_path = mmproj_path;
    options.n_ctx = 256;
    options.n_gpu_layers = 0;
    options.cpu_only = true;
    try {
        files_trial(options).run();
    } catch (const std::bad_alloc & error) {
        end(trial::memory, error.what());
    } catch (const std::exception & error) {
        end(speaks_of_memory(error.what()) ? trial::memory : trial::refused, error.what());
    }
    end(trial::good);
}

} // namespace lookm
