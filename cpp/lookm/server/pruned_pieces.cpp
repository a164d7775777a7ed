#include "lookm/server/pruned_pieces.h"

#include "lookm/core/bad_argument.h"
#include "lookm/core/stopwatch.h"
#include "lookm/prompt/pruned_images.h"
#include "lookm/server/hook.h"
#include "lookm/server/settings.h"

#include <stdexcept>
#include <utility>

namespace lookm::server {

namespace {

bool has_field(const std::string & body, const char * name) {
    return body.find('"' + std::string(name) + '"') != std::string::npos;
}

} // namespace

std::shared_ptr<request_images> & current_images() {
    static thread_local std::shared_ptr<request_images> of_this_thread;
    return of_this_thread;
}

std::optional<pruning> pruning_asked(const std::string & body) {
    if (!has_field(body, "image_ratio") && !has_field(body, "image_cells") &&
        !has_field(body, "pruner")) {
        return std::nullopt;
    }
    const json data = json::parse_no_throw(body);
    if (!data.is_object()) {
        return std::nullopt; // llama-server says what is wrong
    }
    const auto given = [&](const char * name) {
        return data.contains(name) && !data.at(name).is_null();
    };
    const bool ratio = given("image_ratio"), cells = given("image_cells");
    if (!ratio && !cells && !given("pruner")) {
        return std::nullopt; // only in a text
    }
    compression how = server_settings().how;
    const double most = server_settings().image_ratio_max;
    if (ratio || cells) {
        how.image_ratio = 1.0;
        how.image_cells.reset();
    }
    if (ratio) {
        const json & field = data.at("image_ratio");
        how.image_ratio = field.is_number() ? field.get<double>() : -1.0;
        if (!(how.image_ratio > 0.0 && how.image_ratio <= most)) {
            throw bad_argument("image_ratio", field.dump_safe() +
                                                  " is out of range; expected a number in (0, " +
                                                  number(most) + "]");
        }
    }
    if (cells) {
        const json & field = data.at("image_cells");
        if (!field.is_number_integer() || field.get<int64_t>() < 1 ||
            field.get<int64_t>() > INT32_MAX) {
            throw bad_argument("image_cells",
                               field.dump_safe() + ", expected a whole number of 1 or more");
        }
        if (most < 1.0) {
            throw bad_argument("image_cells", field.dump_safe() +
                                                  ", but this server limits image_ratio to " +
                                                  number(most) + "; expected that instead");
        }
        how.image_cells = field.get<int32_t>();
    }
    if (given("pruner")) {
        const json & field = data.at("pruner");
        how.pruner = field.is_string() ? field.get<std::string>() : field.dump_safe();
        if (how.pruner == "none" && most < 1.0) {
            throw bad_argument("pruner", "\"none\", but this server limits image_ratio to " +
                                             number(most) + "; expected another one");
        }
    }
    return pruning_of(how);
}

pruning current_pruning() {
    const std::shared_ptr<request_images> & now = current_images();
    const pruning how = now && now->how ? *now->how : pruning_of(server_settings().how);
    pruned().check(how);
    return how;
}

pruned_pieces & pruned() {
    static pruned_pieces & one = *new pruned_pieces; // its chunks may outlive main()
    return one;
}

void pruned_pieces::open(const std::string & mmproj_path, bool drafts) {
    projector_ = mmproj_path.empty() ? projector_facts() : read_projector(mmproj_path);
    drafts_ = drafts;
}

void pruned_pieces::check(const pruning & how) const {
    if (how.on() && drafts_) {
        throw bad_argument("image_ratio", number(how.image_ratio) +
                                              " does not go with a draft model; expected 1, or a "
                                              "server without drafts");
    }
}

std::vector<mtmd::input_chunk_ptr>
pruned_pieces::prune(const std::vector<const mtmd_input_chunk *> & whole, const pruning & how,
                     const std::vector<llama_token> & question) {
    int32_t n_image = 0;
    for (const mtmd_input_chunk * chunk : whole) {
        n_image += static_cast<int32_t>(mtmd_input_chunk_get_n_tokens(chunk));
    }
    std::vector<mtmd::input_chunk_ptr> out;
    for (size_t i = 0; i < whole.size(); ++i) {
        out.push_back(
            pruned_chunk(whole[i], static_cast<int32_t>(i), n_image, how, question, projector_));
        const std::shared_ptr<request_images> & now = current_images();
        if (!out.back() || !now) {
            continue;
        }
        const std::string id = mtmd_input_chunk_get_id(out.back().get());
        const std::lock_guard guard(lock_);
        std::erase_if(known_, [](const auto & entry) { return entry.second.expired(); });
        std::shared_ptr<const pruned_piece> piece = known_[id].lock();
        if (!piece) {
            piece = std::make_shared<pruned_piece>(
                mtmd::input_chunk_ptr(mtmd_input_chunk_copy(whole[i])), how, question);
            known_[id] = piece;
        }
        now->pieces.push_back(std::move(piece));
    }
    return out;
}

std::shared_ptr<const pruned_piece> pruned_pieces::find(const mtmd_input_chunk * chunk) {
    if (!is_pruned(chunk)) {
        return nullptr;
    }
    const std::lock_guard guard(lock_);
    const auto at = known_.find(mtmd_input_chunk_get_id(chunk));
    std::shared_ptr<const pruned_piece> piece = at == known_.end() ? nullptr : at->second.lock();
    if (!piece) {
        throw std::runtime_error("an image is gone with its request");
    }
    return piece;
}

bool pruned_pieces::pin(int32_t slot, int32_t task, const server_tokens & prompt) {
    if (const auto at = pinned_.find(slot); at != pinned_.end() && at->second.task == task) {
        return true;
    }
    pins mine = {.task = task, .pieces = {}};
    try {
        for (size_t i = 0; prompt.has_mtmd && i < prompt.size();) {
            if (prompt[i] != LLAMA_TOKEN_NULL) {
                ++i;
                continue;
            }
            const mtmd_input_chunk * chunk = prompt.find_chunk(i).get();
            if (auto piece = find(chunk)) {
                mine.n_left_out +=
                    static_cast<int32_t>(mtmd_input_chunk_get_n_tokens(piece->whole.get()) -
                                         mtmd_input_chunk_get_n_tokens(chunk));
                mine.pieces.push_back(std::move(piece));
            }
            i += mtmd_input_chunk_get_n_tokens(chunk);
        }
    } catch (const std::runtime_error &) {
        return false;
    }
    pinned_.insert_or_assign(slot, std::move(mine));
    return true;
}

int32_t pruned_pieces::n_left_out(int32_t slot) const {
    const auto at = pinned_.find(slot);
    return at == pinned_.end() ? 0 : at->second.n_left_out;
}

std::vector<int32_t> pruned_pieces::choose(const pruned_piece & piece, const llama_context * ctx,
                                           const mtmd_input_chunk * read, const float * embd) {
    const stopwatch watch;
    const auto n_read = static_cast<int32_t>(mtmd_input_chunk_get_n_tokens(read));
    std::vector<int32_t> cells = cells_to_read(llama_get_model(ctx), piece.whole.get(), n_read,
                                               piece.how, embd, piece.question, projector_);
    seconds_ = seconds_ + watch.seconds();
    n_left_out_ += mtmd_input_chunk_get_n_tokens(piece.whole.get()) - cells.size();
    return cells;
}

int32_t add_chunk(mtmd_batch * batch, const mtmd_input_chunk * chunk) {
    const auto piece = pruned().find(chunk);
    return mtmd_batch_add_chunk(batch, piece ? piece->whole.get() : chunk);
}

float * output_of(mtmd_batch * batch, const mtmd_input_chunk * chunk) {
    const auto piece = pruned().find(chunk);
    return mtmd_batch_get_output_embd(batch, piece ? piece->whole.get() : chunk);
}

} // namespace lookm::server

// llama-server's server-common.cpp calls this instead of mtmd's function (CMakeLists.txt).
extern "C" llama_pos lookm_n_positions(const mtmd_input_chunk * chunk) {
    return lookm::n_positions(chunk);
}
