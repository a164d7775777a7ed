#include "lookm/session/session.h"

#include "lookm/core/bad_argument.h"
#include "lookm/host/memory_room.h"
#include "lookm/prompt/text_run.h"
#include "lookm/session/checks.h"
#include "lookm/session/prefix_state.h"
#include "lookm/session/prompt_reader.h"

#include "common.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace lookm {

namespace {

compress_options options_for(const prompt & p, const prompt_request & request) {
    compress_options options = checked(request.how);
    options.kind = p.kinds();
    options.explain = request.explain;
    return options;
}

bool ends_with_image(const prompt & p) {
    return p.chunks.back().image != nullptr;
}

} // namespace

session::session(const model_options & options)
    : opened_(options), guard_(options.rpc_servers), sequence_(opened_), answer_(sequence_),
      conversation_(sequence_, answer_), trials_(sequence_, answer_), teacher_forcing_(sequence_),
      prefixes_(static_cast<size_t>(options.prefix_memory)) {}

session::session(const model_options & options, const session & other)
    : opened_(options, other.opened_), guard_(options.rpc_servers), sequence_(opened_),
      answer_(sequence_), conversation_(sequence_, answer_), trials_(sequence_, answer_),
      teacher_forcing_(sequence_), prefixes_(static_cast<size_t>(options.prefix_memory)) {}

std::string session::model_name() const {
    char name[256] = {};
    llama_model_meta_val_str(opened_.weights.get(), "general.name", name, sizeof(name));
    return name;
}

void session::check(const compression & how) const {
    check_supported(how, sequence_.context().unsupported());
    pruning_of(how);
}

void session::clear() {
    ++epoch_;
    trials_.forget();
    teacher_forcing_.forget();
    sequence_.clear();
    answer_.clear();
    explanation_.reset();
}

template <class Work>
auto session::or_empty(Work && work) {
    try {
        return work();
    } catch (...) {
        sequence_.drop_errors();
        clear();
        throw;
    }
}

void session::prefill(const prompt_request & request) {
    check(request.how);
    const prompt p = opened_.tokenize(request);
    check_fits(p, n_ctx(), opened_.mmproj.get(), opened_.options);
    check_ends_with_text(p);
    const compress_options options = options_for(p, request);
    const int32_t n_answer = std::clamp(request.n_answer, 0, n_ctx());
    std::optional<capped_reader> reader;
    if (capped_reader::needed(p.n_cells(), kv_cells(), n_answer)) {
        reader.emplace(options, parts_of(p, opened_.mmproj.get()), kv_cells(),
                       opened_.options.n_batch, n_answer);
        if (request.explain) {
            throw bad_argument("kv_cells", "a prompt that is read through the cap loses cells "
                                           "while it is read and cannot be explained; expected at "
                                           "least its " +
                                               std::to_string(p.n_cells()) + " cells");
        }
    }
    or_empty([&] {
        clear();
        // with compression, the answer's cells are found among those that it frees
        const bool reuses = !reader && request.reuse && prefixes_.on();
        std::vector<piece_key> keys = reuses ? keys_of(p) : std::vector<piece_key>();
        const prefix_match found = find_prefix(p, keys, options);
        const int32_t n_cells = p.n_cells() + (evicts(options) ? 0 : n_answer);
        sequence_.begin(options, std::max(n_cells, found.n_cells()), std::move(reader));
        if (reuses) {
            read_and_keep(p, std::move(keys), found, request.progress);
        } else {
            read_prompt(sequence_, p, request.progress);
        }
        if (request.explain) {
            explanation_ = explain_prompt(opened_, p, [&](const prompt_chunk & chunk) {
                return cells_read(sequence_, p, chunk);
            });
        }
        compress_result result = sequence_.compress(options, request.progress);
        if (explanation_ && !result.kept.empty()) {
            explanation_->take(std::move(result), sequence_.compressor()->kv().layers());
        }
        sequence_.shrink(n_answer);
        answer_.from_here(true);
    });
}

bool session::can_cut() const {
    llama_context * const context = sequence_.context().get(); // null after a failure
    return context && kv_cache::memory_type(context) == "kv_cache";
}

prefix_need session::need_of(const prompt & p, const compress_options & options) const {
    // a cut prefix is there as a whole first
    prefix_need need = {.n_most = p.n_cells(), .n_room = 2 * p.n_cells(), .can_cut = can_cut()};
    if (may_evict(options, options.kind) && needs_sums(options.method)) {
        const int32_t window =
            first_query(options.method, budget_of(options, options.kind), options.kind);
        need.sums = window == 0;
        need.squares = needs_squares(options.method);
        need.n_most = need.sums ? need.n_most : window;
    }
    return need;
}

prefix_match session::find_prefix(const prompt & p, std::span<const piece_key> keys,
                                  const compress_options & options) {
    const prefix_match found = prefixes_.find(keys, need_of(p, options));
    return found.n_cells() <= sequence_.context().most() ? found : prefix_match();
}

void session::read_and_keep(const prompt & p, std::vector<piece_key> keys,
                            const prefix_match & found, const progress_fn & progress) {
    std::vector<prefix::end> ends;
    if (found.from) {
        ends.assign(found.from->ends.begin(), found.from->ends.begin() + found.n_pieces);
        sequence_.resume(found.from->copy, ends.back().n_cells, ends.back().n_past);
    }
    const std::vector<prompt_piece> pieces = p.pieces();
    int32_t n_cells = ends.empty() ? 0 : ends.back().n_cells;
    read_prompt(sequence_, p, progress, found.n_pieces, keys.size(), [&](size_t i) {
        if (i > found.n_pieces) {
            n_cells += pieces[i - 1].n;
            ends.push_back({n_cells, sequence_.n_past()});
        }
        const size_t bytes = n_cells * sequence_.context().bytes_per_cell_at_rest();
        if (i == keys.size() && i > found.n_pieces && bytes <= prefixes_.most() &&
            has_room(bytes)) {
            prefixes_.keep({std::move(keys), ends, sequence_.copied()}, can_cut());
        }
    });
}

void session::check_prefix_memory(size_t bytes) const {
    if (bytes > prefixes_.most()) {
        throw bad_argument("prefix_memory", std::to_string(prefixes_.most()) +
                                                " bytes, expected at least the " +
                                                std::to_string(bytes) + " of this prefix");
    }
}

std::vector<piece_key> session::keys_to_keep(const prompt & p) const {
    std::vector<piece_key> keys = keys_of(p);
    if (keys.empty()) {
        throw bad_argument("prompt", "it has no image and no context, expected one that can be "
                                     "recognized when it comes again");
    }
    return keys;
}

int32_t session::keep_prefix(const prompt_request & request) {
    check(request.how);
    if (pruning_of(request.how).asks_question()) {
        throw bad_argument("pruner", "\"" + request.how.pruner +
                                         "\" chooses cells by the question, and nothing can be "
                                         "read before it; expected divprune, grid, random or none");
    }
    prompt p = opened_.tokenize(request);
    check_fits(p, n_ctx(), opened_.mmproj.get(), opened_.options);
    std::vector<piece_key> keys = keys_to_keep(p);
    const prompt_piece last = p.pieces()[keys.size() - 1];
    p.chunks.resize(last.chunk + 1);
    p.chunks.back().tokens.resize(p.chunks.back().image ? 0 : last.first + last.n);
    p.chunks.back().kind.resize(p.chunks.back().tokens.size());
    const compress_options options = options_for(p, request);
    check_prefix_memory(p.n_cells() * sequence_.context().bytes_per_cell_at_rest());
    or_empty([&] {
        clear();
        const prefix_match found = find_prefix(p, keys, options);
        sequence_.begin(options, std::max(p.n_cells(), found.n_cells()));
        read_and_keep(p, std::move(keys), found, request.progress);
        sequence_.keeps_all();
        clear(); // what was read is in host memory
    });
    return p.n_cells();
}

std::vector<uint8_t> session::prefix_state(const prompt_request & request) {
    const std::vector<piece_key> keys = keys_to_keep(opened_.tokenize(request));
    const auto find = [&](bool cut) {
        return prefixes_.find(keys, {.n_most = INT32_MAX, .n_room = INT32_MAX, .can_cut = cut});
    };
    prefix_match found = find(false);
    if (found.n_pieces < keys.size()) {
        found = find(can_cut());
    }
    if (found.n_pieces < keys.size()) {
        keep_prefix(request);
        found = find(can_cut());
    }
    if (found.n_pieces < keys.size()) {
        throw std::runtime_error("too little memory is left to keep this prefix");
    }
    if (found.from->pieces.size() == keys.size()) {
        return state_of(*found.from, sequence_.context());
    }
    // a longer prompt has taken its place: the file is to hold nothing that came after it
    return or_empty([&] {
        clear();
        std::vector<prefix::end> ends(found.from->ends.begin(),
                                      found.from->ends.begin() + keys.size());
        sequence_.begin(checked(compression()), found.n_cells());
        sequence_.resume(found.from->copy, ends.back().n_cells, ends.back().n_past);
        const prefix cut = {keys, std::move(ends), sequence_.copied()};
        std::vector<uint8_t> state = state_of(cut, sequence_.context());
        clear();
        return state;
    });
}

int32_t session::restore_prefix(std::span<const uint8_t> state) {
    check_prefix_memory(state.size());
    return or_empty([&] {
        clear();
        prefix restored = prefix_of(state, sequence_.context());
        const int32_t n_cells = restored.ends.back().n_cells;
        prefixes_.keep(std::move(restored), can_cut());
        clear();
        return n_cells;
    });
}

void session::read(const prompt_request & request) {
    check(request.how);
    const prompt p = opened_.tokenize(request);
    check_fits(p, n_ctx(), opened_.mmproj.get(), opened_.options);
    const compress_options options = options_for(p, request);
    if (capped_reader::needed(p.n_cells(), kv_cells(), request.n_answer)) {
        throw bad_argument("kv_cells",
                           std::to_string(kv_cells()) +
                               " cells do not hold the prompt whose cells are to be tried; "
                               "expected at least " +
                               std::to_string(p.n_cells()));
    }
    const int32_t n_answer = std::clamp(request.n_answer, 0, n_ctx() - p.n_cells());
    or_empty([&] {
        clear();
        sequence_.begin(options, p.n_cells() + n_answer);
        read_prompt(sequence_, p, request.progress);
        trials_.keep(options.kind, ends_with_image(p));
    });
}

void session::trial(const compression & how) {
    trials_.check(how);
    ++epoch_;
    or_empty([&] {
        teacher_forcing_.forget();
        trials_.clear_all_but_copy();
        explanation_.reset();
        trials_.run(how);
    });
}

void session::follow(const std::string & text) {
    or_empty([&] { teacher_forcing_.go_back(); });
    trials_.follow(text);
}

std::vector<float> session::distributions(std::span<const int32_t> tokens) {
    if (talking()) {
        throw bad_argument("distributions", "there are none in a conversation");
    }
    if (!answer_.is_ready()) {
        throw bad_argument("distributions", "no prompt has been processed, or its answer has "
                                            "begun; call prefill, or read and trial, first");
    }
    teacher_forcing_.check(tokens);
    return or_empty([&] { return teacher_forcing_.read(tokens); });
}

void session::check(const sampling_options & sampling, const chat_prompt * prompt) const {
    token_sampler(sampling, opened_.vocab(), prompt);
}

void session::start(const sampling_options & sampling, const chat_prompt * prompt) {
    or_empty([&] { teacher_forcing_.go_back(); });
    answer_.start(sampling, prompt);
}

std::vector<float> session::log_probs() const {
    if (!answer_.has_chosen()) {
        throw bad_argument("log_probs", "no token of an answer has been chosen; call next first");
    }
    const std::span<const float> logits = answer_.logits();
    std::vector<float> found(logits.size());
    log_softmax(logits, found);
    return found;
}

void session::converse(const prompt_request & request) {
    turn(request, !talking());
}

void session::converse_anew(const prompt_request & request) {
    turn(request, true);
}

void session::turn(const prompt_request & request, bool begins) {
    check(request.how);
    conversation::turn next = conversation_.prepare(request, begins);
    or_empty([&] {
        if (begins) {
            clear();
        }
        conversation_.read(std::move(next), request.progress);
    });
}

void session::restore(std::span<const uint8_t> state, const compression & how) {
    check(how);
    const conversation::saved saved = conversation_.parse(state);
    or_empty([&] {
        clear();
        conversation_.restore(saved, how);
    });
}

std::optional<std::string> session::next() {
    answer_.check_goes_on();
    return or_empty([&] { return answer_.next(); });
}

std::vector<int32_t> session::tokens_of(const std::string & text, bool control) const {
    return lookm::tokens_of(opened_.vocab(), text, control);
}

std::optional<int32_t> session::begin_token() const {
    const llama_token token = llama_vocab_bos(opened_.vocab());
    return llama_vocab_get_add_bos(opened_.vocab()) && token != LLAMA_TOKEN_NULL
               ? std::optional(token)
               : std::nullopt;
}

std::string session::text_of(std::span<const int32_t> tokens, bool control) const {
    check_tokens(tokens, n_vocab());
    return common_detokenize(opened_.vocab(), {tokens.begin(), tokens.end()}, control);
}

std::string session::piece_of(int32_t token) const {
    check_tokens({&token, 1}, n_vocab());
    return common_token_to_piece(opened_.vocab(), token, true);
}

} // namespace lookm
