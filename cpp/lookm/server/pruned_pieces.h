#pragma once

#include "lookm/core/pruning.h"
#include "lookm/prompt/image_chunks.h"
#include "lookm/prompt/image_facts.h"

#include "server-common.h"

#include "mtmd-helper.h"

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace lookm::server {

// A piece of an image of which only some cells are read.
struct pruned_piece {
    mtmd::input_chunk_ptr whole; // with pixels
    pruning how;
    std::vector<llama_token> question;
};

// What one request wants of its images. It lives until its response has been sent.
struct request_images {
    std::optional<pruning> how; // as the request says; without: as the server's flags say
    std::vector<std::shared_ptr<const pruned_piece>> pieces;
};

// That of the request that this thread handles; null outside of handlers.
std::shared_ptr<request_images> & current_images();

// The pruning that the fields image_ratio, image_cells and pruner of a request's body ask for;
// nullopt without any of them. Throws std::invalid_argument, which becomes status 400.
std::optional<pruning> pruning_asked(const std::string & body);
// Of a request that this thread handles. Throws what pruned_pieces::check does.
pruning current_pruning();

// llama-server's prompts hold images as mtmd's chunks. A pruned one is a chunk of the cells that
// are read, so that slots, caches and positions are right, and this knows which piece it comes
// from. Pieces live as long as their requests do, and as the slots that read them.
class pruned_pieces {
  public:
    // The projector's file, before the first request. drafts: another model drafts answers, whose
    // memory takes no gaps between positions.
    void open(const std::string & mmproj_path, bool drafts);
    // Throws bad_argument "image_ratio" if images cannot be pruned here.
    void check(const pruning & how) const;

    // Replaces the pieces of one image by what is read of them, where that is less than all. whole:
    // mtmd's chunks with pixels.
    std::vector<mtmd::input_chunk_ptr> prune(const std::vector<const mtmd_input_chunk *> & whole,
                                             const pruning & how,
                                             const std::vector<llama_token> & question);

    // The piece of a pruned chunk; null for a chunk that is whole. Throws std::runtime_error for
    // one whose request is gone.
    std::shared_ptr<const pruned_piece> find(const mtmd_input_chunk * chunk);
    // Keeps the pieces of a prompt until the slot lets them go. Returns false if one is gone.
    bool pin(int32_t slot, int32_t task, const server_tokens & prompt);
    void unpin(int32_t slot) { pinned_.erase(slot); }
    // Cells of the images of a slot's prompt that are not read.
    int32_t n_left_out(int32_t slot) const;

    // Since the start: cells that were encoded and not read, and the time it took to choose them.
    uint64_t n_left_out() const { return n_left_out_; }
    double seconds() const { return seconds_; }

    // Which cells of a piece are read. read: its pruned chunk; embd: of all cells of the piece
    std::vector<int32_t> choose(const pruned_piece & piece, const llama_context * ctx,
                                const mtmd_input_chunk * read, const float * embd);

  private:
    struct pins {
        int32_t task;
        std::vector<std::shared_ptr<const pruned_piece>> pieces;
        int32_t n_left_out = 0;
    };

    projector_facts projector_;
    bool drafts_ = false;
    std::mutex lock_;                                                // of known_
    std::map<std::string, std::weak_ptr<const pruned_piece>> known_; // by the chunk's id
    std::map<int32_t, pins> pinned_; // by slot; of the thread that decodes
    std::atomic<uint64_t> n_left_out_ = 0;
    std::atomic<double> seconds_ = 0.0;
};

pruned_pieces & pruned();

// What the encoder gets in place of a pruned chunk.
int32_t add_chunk(mtmd_batch * batch, const mtmd_input_chunk * chunk);
float * output_of(mtmd_batch * batch, const mtmd_input_chunk * chunk);

} // namespace lookm::server
