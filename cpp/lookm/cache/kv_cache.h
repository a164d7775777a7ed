#pragma once

#include "lookm/cache/sequence_bytes.h"
#include "lookm/core/method.h"
#include "lookm/graph/kv_rows.h"
#include "lookm/graph/move_rows.h"

#include "llama.h"

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

class llama_kv_cache; // llama.cpp's class; private_caches.h includes its private headers

namespace lookm {

// One cell of a sequence.
struct cell {
    int32_t index; // in the cache
    token_kind kind;
    int32_t stream = 0; // of the cache; 0 unless each sequence has its own stream
};

// Bytes that a context and its model have allocated, or with no_alloc would allocate, on all
// devices together.
struct context_bytes {
    size_t weights = 0;
    size_t cells = 0;
    size_t compute = 0;
};

// Bytes of a context and its model in this process's memory, not counting accelerators and servers.
struct host_bytes {
    size_t taken = 0;
    size_t mapped = 0; // weights that can be used directly from the mapped file
};

// The cells that keep() has left of a prompt: n cells, all at position pos; those that another
// sequence shares stay at the position of an earlier keep().
struct packed_cells {
    llama_pos pos = -1;
    int32_t n = 0;
};

// The parts of a context's KV cache that compression needs: storage tensors, cells, and the
// callback that observes attention. Nearly everything that relies on llama.cpp's private headers
// is behind this class.
class kv_cache {
  public:
    // Throws bad_argument "kv_ratio" with the reason if the memory cannot be compressed.
    explicit kv_cache(llama_context * ctx);
    ~kv_cache();

    // Why this context cannot be compressed, or "".
    static std::string unsupported(llama_context * ctx);
    // The kind of llama.cpp's memory: "kv_cache", "kv_cache_iswa", "memory_hybrid", ... or "none"
    static std::string memory_type(llama_context * ctx);
    // Bytes of K and V for each token, in layers that see every earlier token, compressible or not;
    // 0 without such layers.
    static size_t bytes_per_token(llama_context * ctx);
    // Throws bad_argument (named k or v) for a type whose block size does not divide the size of a
    // head, which would make llama.cpp abort.
    static void check_types(const llama_model * model, ggml_type type_k, ggml_type type_v,
                            const char * k = "type_k", const char * v = "type_v");
    // How the context's caches store rows, in the order in which llama.cpp saves them: full
    // attention, then sliding windows.
    static std::vector<cache_form> forms(llama_context * ctx);
    // The number of cells that another context of this model needs to take over the content of this
    // one, sliding windows included. nullopt for a memory that does not fill up cell by cell.
    static std::optional<int32_t> cells_in_use(llama_context * ctx);
    // Cells that are allocated for sliding windows; 0 without any.
    static int32_t window_cells(llama_context * ctx);
    // Bytes of the KV buffers on all devices.
    static size_t bytes_allocated(llama_context * ctx);
    static context_bytes bytes_by_use(llama_context * ctx);
    static host_bytes bytes_on_host(llama_context * ctx);
    // Bytes that ggml reserves for the tables of its graphs.
    static uint64_t graph_tables_of(const llama_context * ctx);
    // Whether the rotation of positions depends on the context's size (LongRoPE). Then the size
    // must not change while there is a sequence in it.
    static bool size_changes_rope(llama_context * ctx);

    const std::vector<kv_layer> & layers() const { return layers_; } // in stream 0
    std::vector<kv_layer> layers(llama_seq_id seq) const; // in the stream of this sequence
    // Number of layers that attend to the cells of layers()[i]: that layer, and later ones that
    // have no K and V of their own.
    int n_readers(size_t i) const { return n_readers_[i]; }
    int32_t n_cells() const; // allocated cells of each stream
    int32_t n_used() const;  // in all streams, without the cells that isolate() reserves
    int32_t n_used_by(llama_seq_id seq) const;
    int32_t n_used_alone_by(llama_seq_id seq) const; // cells that no other sequence has
    int32_t stream_of(llama_seq_id seq) const;
    size_t bytes_per_cell() const { return bytes_per_token(ctx_); }

    // Waits for the device and carries out the shifts and copies of rows that llama.cpp has
    // postponed to its next graph.
    void settle();

    // Throws bad_argument "seq" for a sequence that this context cannot have.
    void check(llama_seq_id seq) const;

    // The cells of a sequence in the order of their tokens. Cells that keep() or shrink() has put
    // at the same position are in the order of their rows. Cells made from embeddings are image
    // cells.
    std::vector<cell> cells(llama_seq_id seq) const;

    // llama.cpp does not save which cells were made from embeddings: call after a saved sequence
    // has been restored, with the kinds of its cells in the order of cells().
    void restore_kinds(llama_seq_id seq, std::span<const token_kind> kind);
    // Of the last cells alone: some that were made from embeddings are those of text tokens.
    void set_last_kinds(llama_seq_id seq, std::span<const token_kind> kind);

    // The first of those cells if keep() has packed them; n = 0 if it has not.
    packed_cells packed(llama_seq_id seq) const;

    // The n lowest cells that kept rows may be written to: empty ones and those that belong to seq
    // only, except the excluded ones. Throws std::runtime_error if there are fewer.
    std::vector<int32_t> targets(llama_seq_id seq, int32_t n,
                                 std::span<const cell> excluded = {}) const;

    // Call after row r of every layer has been written to cell target[r]: gives those cells to the
    // sequence, at its last position, and takes it out of all others. A cell without any sequence
    // is emptied. The next token still gets the position after the whole prompt, and sees every
    // kept cell. Cells of packed() may be among the target; where another sequence shares them,
    // they stay as they are, as it would not see them at a later position.
    void keep(llama_seq_id seq, const std::vector<int32_t> & target);

    // Call after the kept rows of these cells have been written to the first n_keep of them: those
    // get the latest position of all of them, and the others are emptied. Later cells see the kept
    // ones; the position of the next token does not change. cells: of seq alone, ascending.
    void shrink(llama_seq_id seq, std::span<const int32_t> cells, size_t n_keep);

    // Empties the cells of seq at positions [p0, p1), only in layers that see every earlier token.
    static void forget(llama_context * ctx, llama_seq_id seq, llama_pos p0, llama_pos p1);

    // Isolating a sequence makes its result independent of the other sequences in the cache. A
    // prompt that is read among others gets other rounding errors than one that is read alone:
    // kernels sum over cells in their order and in groups, and the choice of a kernel may depend on
    // the number of cells. Such errors decide between cells with nearly equal scores. An isolated
    // sequence has the cells [0, n) to itself, and while only they are shown, llama.cpp sees no
    // others.
    //
    // This works only if all sequences share one stream of cells. Layers with sliding windows have
    // their own cache, which does not change.

    bool can_isolate() const;
    // The moves that bring the m cells of seq to [0, m) in token order, and the cells of all other
    // sequences to n and up in their order. nullopt if there are too few cells or m > n.
    std::optional<std::vector<cell_move>> moves_to_isolate(llama_seq_id seq, int32_t n) const;
    // The moves that bring all used cells to the lowest places, in their order.
    std::vector<cell_move> moves_to_pack() const;
    // Moves the cells' positions and sequences; move_rows() does the same for their K and V rows.
    void move(std::span<const cell_move> moves);

    // Reserves the cells below n for seq, which has its cells in [0, m), until unite().
    void isolate(llama_seq_id seq, int32_t n);
    // Shows llama.cpp only the cells of the isolated sequence, if there is one, until show_all().
    void show_isolated();
    // Call before n_more cells are decoded: ends the isolation if they do not fit below n. Returns
    // whether a sequence is still isolated.
    bool keeps_isolated(int32_t n_more);
    void show_all();
    void unite();

    // The callback that sees every node the scheduler computes; nullptr: none.
    struct eval_hook {
        ggml_backend_sched_eval_callback function;
        void * user_data;
    };
    static eval_hook eval_callback(const llama_context * ctx);
    static void set_eval_callback(llama_context * ctx, ggml_backend_sched_eval_callback callback,
                                  void * user_data);
    void set_eval_callback(ggml_backend_sched_eval_callback callback, void * user_data) {
        set_eval_callback(ctx_, callback, user_data);
    }

    // Of a sequence's cells, ascending; none for a memory without attention.
    static std::vector<llama_pos> positions(llama_context * ctx, llama_seq_id seq);
    // Moves the cells of a sequence at first, first + 1, ... to other positions, ascending and not
    // below these. Their rows do not change: keys must be rotated by the new positions already.
    static bool can_set_positions(llama_context * ctx);
    static void set_positions(llama_context * ctx, llama_seq_id seq, llama_pos first,
                              std::span<const llama_pos> positions);

    // The backend of the scheduler that computed this node.
    ggml_backend_t backend_of(ggml_tensor * node) const;
    // The backend of the scheduler whose memory holds this tensor of the cache.
    ggml_backend_t backend_of_storage(const ggml_tensor * storage) const;
    // The CPU backend of the scheduler, which uses the context's threads.
    ggml_backend_t cpu_backend() const;

  private:
    std::vector<cell> last_cells(llama_seq_id seq, size_t n) const; // of cells(), the last n

    struct isolated;
    // What keep() has left of a sequence that shares cells: n of them, from position first to pos.
    struct in_groups {
        llama_pos first, pos;
        int32_t n;
    };

    llama_context * ctx_;
    llama_kv_cache * kv_;
    std::unique_ptr<isolated> isolated_;
    std::map<llama_seq_id, in_groups> in_groups_;
    std::vector<kv_layer> layers_;
    std::vector<int> n_readers_;
};

} // namespace lookm
