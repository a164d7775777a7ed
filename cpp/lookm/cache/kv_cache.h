#pragma once

#include "lookm/cache/sequence_bytes.h"
#include "lookm/core/method.h"
#include "lookm/graph/kv_rows.h"
#include "lookm/graph/move_rows.h"

#include "llama.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

class llama_kv_cache; // llama.cpp's own; its headers are seen by kv_cache.cpp alone

namespace lookm {

// One cell of a sequence.
struct cell {
    int32_t index; // in the cache
    token_kind kind;
    int32_t stream = 0; // of the cache: 0 unless each sequence has a stream of its own
};

// What a context and its model have allocated, or with no_alloc would, on all devices together.
struct context_bytes {
    size_t weights = 0;
    size_t cells = 0;
    size_t compute = 0;
};

// Of a context and its model, in this process's memory: on no accelerator or server.
struct host_bytes {
    size_t taken = 0;
    size_t mapped = 0; // weights that can be used as they lie in their file
};

struct packed_cells {
    llama_pos pos = -1;
    int32_t n = 0;
};

// The KV cache of a context as far as compression needs it: storage tensors, cells, and the
// callback that taps attention. Everything that relies on llama.cpp's private headers is behind
// this class.
class kv_cache {
  public:
    // Throws std::invalid_argument naming the model's memory type when it cannot be compressed.
    explicit kv_cache(llama_context * ctx);
    ~kv_cache();

    // Why this context cannot be compressed, "" when it can. memory_type: "kv_cache",
    // "kv_cache_iswa", "hybrid", ...
    static std::string unsupported(llama_context * ctx);
    static std::string memory_type(llama_context * ctx);
    // K and V that a token takes in layers that see every earlier token, compressible or not; 0:
    // there are none
    static size_t bytes_per_token(llama_context * ctx);
    // Throws std::invalid_argument for a type whose blocks do not divide a head: llama.cpp would
    // abort. prefix: of the arguments' names in the error.
    static void check_types(const llama_model * model, ggml_type type_k, ggml_type type_v,
                            const std::string & prefix = "");
    // How its caches store rows, in the order that llama.cpp writes a sequence in: full attention,
    // then windows.
    static std::vector<cache_form> forms(llama_context * ctx);
    // Cells that another context of this model must have to take over what is in this one, windows
    // included. Nothing for a memory that does not fill up cell by cell.
    static std::optional<int32_t> cells_in_use(llama_context * ctx);
    static int32_t
    window_cells(llama_context * ctx); // allocated for sliding windows, 0 without any
    static size_t bytes_allocated(llama_context * ctx); // KV buffers, on all devices
    static context_bytes bytes_by_use(llama_context * ctx);
    static host_bytes bytes_on_host(llama_context * ctx);
    static uint64_t
    graph_tables_of(const llama_context * ctx); // bytes that ggml reserves for its graphs
    // Whether a context's size decides how positions are rotated (LongRoPE): then it must not
    // change under a sequence.
    static bool size_changes_rope(llama_context * ctx);

    const std::vector<kv_layer> & layers() const { return layers_; } // in stream 0
    std::vector<kv_layer> layers(llama_seq_id seq) const; // where this sequence's rows are
    // Layers that attend to the cells of layers()[i]: that one, and those after it that keep no K
    // and V of their own.
    int n_readers(size_t i) const { return n_readers_[i]; }
    int32_t n_cells() const; // allocated, for each stream
    int32_t n_used() const;  // of all streams; cells that isolate() holds free are not in use
    int32_t n_used_by(llama_seq_id seq) const;
    int32_t stream_of(llama_seq_id seq) const;
    size_t bytes_per_cell() const { return bytes_per_token(ctx_); }

    // Waits for the device, and does what llama.cpp left for its next graph: shifts and copies of
    // rows.
    void settle();

    // Throws std::invalid_argument for a sequence that this context cannot have.
    void check(llama_seq_id seq) const;

    // Cells of a sequence in the order of their tokens; those that keep() or shrink() has put at
    // one position in the order of their rows. Cells made from embeddings are image cells.
    std::vector<cell> cells(llama_seq_id seq) const;

    // The first of those cells, if they are what keep() has left of a prompt: n of them, all at one
    // position.
    packed_cells packed(llama_seq_id seq) const;

    // The n lowest cells that kept rows may be written to: empty ones, and those that no other
    // sequence shares, but for these. Throws std::runtime_error when there are fewer.
    std::vector<int32_t> targets(llama_seq_id seq, int32_t n, std::span<const cell> but = {}) const;

    // Row r of every layer now lies in cell target[r]: those cells are the sequence's, at its last
    // position, and it leaves all others: they are emptied, or stay as they are with the sequences
    // that share them. The next token still comes after the whole prompt, and sees every kept cell.
    void keep(llama_seq_id seq, const std::vector<int32_t> & target);

    // The first n_keep of these cells of seq, ascending and no other sequence's, now hold what is
    // left of all of them: they take the latest position among them, and the others are emptied.
    // Cells that come later see them; the next token's position stays what it is.
    void shrink(llama_seq_id seq, std::span<const int32_t> cells, size_t n_keep);

    // Empties the cells of seq at positions [p0, p1) in layers that see every earlier token, and in
    // no others.
    static void forget(llama_context * ctx, llama_seq_id seq, llama_pos p0, llama_pos p1);

    // A prompt that is read into a cache with other sequences gets other rounding errors than one
    // that is read alone: kernels sum over cells in the order and in the groups that they lie in,
    // and some are chosen by how many cells there are. Such errors decide near ties between cells.
    // An isolated sequence is read as if the cache held nothing else: it has the cells [0, n) to
    // itself, and while they are all that shows, llama.cpp sees no others.
    //
    // Only where sequences share one stream of cells. Layers with sliding windows have a cache of
    // their own, which stays as it is.

    bool can_isolate() const;
    // Moves that bring the cells of seq to [0, m), in the order of their tokens, and those of all
    // others behind cell n, in their order; nothing where there is no room for that. m <= n.
    std::optional<std::vector<cell_move>> moves_to_isolate(llama_seq_id seq, int32_t n) const;
    // Moves that bring all cells to the lowest ones, in their order.
    std::vector<cell_move> moves_to_pack() const;
    // Cells move, of all sequences that have them, as their rows have (move_rows) or will.
    void move(std::span<const cell_move> moves);

    // seq has its cells in [0, m), and until unite() no other sequence gets one below n.
    void isolate(llama_seq_id seq, int32_t n);
    // The cells of the isolated sequence, if there is one, are all that shows, until show_all().
    void show_isolated();
    // Before n_more cells are decoded: where they do not fit below n, nothing is isolated any more.
    // Returns whether it still is.
    bool keeps_isolated(int32_t n_more);
    void show_all();
    void unite();

    // Installs (or, with nullptr, removes) the callback that sees every node the scheduler
    // computes.
    void set_eval_callback(ggml_backend_sched_eval_callback callback, void * user_data);

    // The scheduler's own backend that computed this node.
    ggml_backend_t backend_of(ggml_tensor * node) const;
    // The scheduler's backend whose memory holds this cache tensor.
    ggml_backend_t backend_of_storage(const ggml_tensor * storage) const;
    // The scheduler's CPU backend: it has the context's threads.
    ggml_backend_t cpu_backend() const;

  private:
    struct isolated;

    llama_context * ctx_;
    llama_kv_cache * kv_;
    std::unique_ptr<isolated> isolated_;
    std::vector<kv_layer> layers_;
    std::vector<int> n_readers_;
};

} // namespace lookm
