#include "lookm/session/sized_context.h"

#include "lookm/cache/sequence_numbers.h"
#include "lookm/core/bad_argument.h"
#include "lookm/host/log.h"
#include "lookm/host/memory_room.h"
#include "lookm/session/cap_size.h"

#include <algorithm>
#include <stdexcept>
#include <vector>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace lookm {

namespace {

// A context that only decodes needs no compute buffer for a prompt.
constexpr int32_t n_ubatch_decode = 32;

void return_to_system() {
#if defined(__GLIBC__)
    malloc_trim(0); // small buffers are in the heap, which the C library keeps
#endif
}

} // namespace

sized_context::sized_context(llama_model * model, const model_options & options)
    : model_(model), options_(options) {
    options_.n_ctx = padded_cells(context_limit(model, options));
    make(cells_step, options_.n_ubatch);
    unsupported_ = kv_cache::unsupported(get());
    bytes_per_cell_ = kv_cache::bytes_per_token(get());
    cap_ = cells_of_cap(options_, get(), unsupported_, limit());
    check_kept_types();
    check_prefix_type();
    options_.shrink = options_.shrink && !kv_cache::size_changes_rope(get());
    open(0);
}

// Must be called while the smallest context is open.
void sized_context::check_kept_types() {
    options_.kept_type_k = options_.kept_type_k.empty() ? options_.type_k : options_.kept_type_k;
    options_.kept_type_v = options_.kept_type_v.empty() ? options_.type_v : options_.kept_type_v;
    const ggml_type k = parse_cache_type("kept_type_k", options_.kept_type_k);
    const ggml_type v = parse_cache_type("kept_type_v", options_.kept_type_v);
    if (!keeps_other_types()) {
        return;
    }
    const bool other_k = options_.kept_type_k != options_.type_k;
    const char * const asked = other_k ? "kept_type_k" : "kept_type_v";
    const std::string value = "\"" + (other_k ? options_.kept_type_k : options_.kept_type_v) + "\"";
    if (!unsupported_.empty()) {
        throw bad_argument(asked, value + " asks for cells of another type, but " + unsupported_);
    }
    if (!options_.shrink || kv_cache::size_changes_rope(get())) {
        throw bad_argument(
            asked, value + " asks for a second cache, but " +
                       (options_.shrink
                            ? "the size of this model's context decides how positions are rotated"
                            : "shrink is False; expected True") +
                       "; type_k and type_v hold from the start");
    }
    kv_cache::check_types(model_, k, v, "kept_type_k", "kept_type_v");
    make(cells_step, n_ubatch_decode, true); // throws where llama.cpp cannot have these types
    if (options_.kv_memory > 0 && bytes_per_cell() > bytes_per_cell_) {
        throw bad_argument(
            asked,
            value + " is wider than what prompts are read into, which kv_memory is shared out by; "
                    "expected kv_cells, or no wider type");
    }
}

void sized_context::check_prefix_type() const {
    if (options_.prefix_type.empty()) {
        return;
    }
    const ggml_type type = parse_cache_type("prefix_type", options_.prefix_type);
    if (!unsupported_.empty()) {
        throw bad_argument("prefix_type", "\"" + options_.prefix_type +
                                              "\" asks for cells of another type, but " +
                                              unsupported_);
    }
    kv_cache::check_types(model_, type, type, "prefix_type", "prefix_type");
}

int32_t sized_context::size() const {
    return ctx_ ? static_cast<int32_t>(llama_n_ctx(get())) : 0;
}

int32_t sized_context::most() const {
    return cap_ > 0 ? std::min(padded_cells(cap_), limit()) : limit();
}

int32_t sized_context::cells_for(int32_t n_cells) const {
    return options_.shrink ? std::clamp(padded_cells(n_cells), cells_step, most()) : most();
}

std::optional<int32_t> sized_context::n_used() const {
    return ctx_ ? kv_cache::cells_in_use(get()) : 0; // null where making one has failed
}

size_t sized_context::bytes() const {
    return kv_cache::bytes_allocated(get());
}

// A cache that does not fit into memory would end the process, or slow down the whole machine.
void sized_context::check_memory(int32_t n_cells) const {
    if (options_.no_alloc) {
        return;
    }
    const uint64_t wanted = bytes_per_cell_ * static_cast<uint64_t>(n_cells);
    uint64_t memory = 0;
    for (size_t i = 0; i < ggml_backend_dev_count(); ++i) {
        size_t free = 0, total = 0;
        ggml_backend_dev_memory(ggml_backend_dev_get(i), &free, &total);
        memory += total;
    }
    if (wanted > memory) {
        throw bad_argument("n_ctx", "a KV cache of " + std::to_string(n_cells) + " cells takes " +
                                        std::to_string(wanted >> 20) +
                                        " MiB, more than all memory here, " +
                                        std::to_string(memory >> 20) +
                                        " MiB; expected fewer cells (0 takes the model's " +
                                        std::to_string(llama_model_n_ctx_train(model_)) + ")");
    }
    if (!lies_on_devices(options_.rpc_servers)) {
        check_room("a KV cache of " + std::to_string(n_cells) + " cells", {wanted, 0, tables_});
    }
}

void sized_context::make(int32_t n_cells, int32_t n_ubatch, bool kept) {
    model_options sized = options_;
    kept_ = kept && keeps_other_types();
    if (kept_) {
        sized.type_k = options_.kept_type_k;
        sized.type_v = options_.kept_type_v;
        if (sized.flash_attn == "off" &&
            ggml_is_quantized(parse_cache_type("kept_type_v", sized.type_v))) {
            sized.flash_attn = "auto"; // "off" is for reading prompts
        }
    }
    sized.n_ctx = n_cells;
    sized.n_ubatch = std::min(options_.n_ubatch, n_ubatch);
    sized.n_batch = sized.n_ubatch < options_.n_ubatch ? sized.n_ubatch : options_.n_batch;
    reads_prompts_ = n_ubatch == options_.n_ubatch && !kept_;
    compressor_.reset();
    ctx_.reset(); // frees its memory before the next one takes some
    check_memory(n_cells);
    ctx_ = make_context(model_, sized);
    tables_ = std::max(tables_, kv_cache::graph_tables_of(get()));
}

void sized_context::clear() {
    if (ctx_) {
        llama_memory_clear(llama_get_memory(get()), false);
    }
}

void sized_context::open(int32_t n_cells) {
    const int32_t wanted = cells_for(n_cells);
    if (ctx_ && reads_prompts_ && size() == wanted) {
        clear();
    } else {
        make(wanted, options_.n_ubatch);
    }
    make_compressor();
}

void sized_context::make_compressor() {
    if (!compressor_ && unsupported_.empty() && !options_.no_alloc) {
        compressor_ =
            std::make_unique<lookm::compressor>(get(), static_cast<size_t>(options_.compute_bytes));
    }
}

void sized_context::open_for_answer(int32_t n_cells) {
    // the cache of a sliding window depends on n_ubatch
    const bool plain = kv_cache::memory_type(get()) == "kv_cache";
    make(cells_for(n_cells), plain ? n_ubatch_decode : options_.n_ubatch, true);
}

std::vector<uint8_t> sized_context::sequence() const {
    // through host memory: llama.cpp's copy on the device is wrong for quantized caches
    std::vector<uint8_t> cells(llama_state_seq_get_size(get(), 0));
    forget_errors();
    const size_t n_read = llama_state_seq_get_data(get(), cells.data(), cells.size(), 0);
    if (n_read == 0 || n_read > cells.size()) {
        throw std::runtime_error("the KV cache of " + std::to_string(size()) +
                                 " cells cannot be read out: " + last_logged_error());
    }
    cells.resize(n_read);
    return cells;
}

std::vector<token_kind> sized_context::kinds() const {
    std::vector<token_kind> out;
    for (const cell & c : compressor_ ? compressor_->kv().cells(0) : std::vector<cell>()) {
        out.push_back(c.kind);
    }
    return out;
}

void sized_context::set_last_kinds(std::span<const token_kind> kinds) {
    if (compressor_) {
        compressor_->kv().set_last_kinds(0, kinds);
    }
}

void sized_context::restore_kinds(std::span<const token_kind> kinds) {
    if (compressor_ && !kinds.empty()) {
        compressor_->kv().restore_kinds(0, kinds);
    }
}

void sized_context::refill(std::span<const uint8_t> sequence, std::span<const token_kind> kinds) {
    clear();
    forget_errors();
    if (llama_state_seq_set_data(get(), sequence.data(), sequence.size(), 0) != sequence.size()) {
        throw std::runtime_error("the KV cache of the prompt cannot be restored: " +
                                 last_logged_error());
    }
    restore_kinds(kinds);
}

void sized_context::check_size_of_state(int32_t n_ctx) const {
    if (n_ctx != size_that_counts()) {
        throw bad_argument("state", "it was made with n_ctx " + std::to_string(n_ctx) +
                                        ", which decides how this model rotates positions, "
                                        "expected " +
                                        std::to_string(size_that_counts()));
    }
}

sequence_rest sized_context::rest() const {
    return {kv_cache::forms(get()),
            options_.prefix_type.empty()
                ? std::nullopt
                : std::optional(parse_cache_type("prefix_type", options_.prefix_type)),
            thread_count(options_)};
}

size_t sized_context::bytes_per_cell_at_rest() const {
    return static_cast<size_t>(rest().share() * static_cast<double>(bytes_per_cell()));
}

std::vector<uint8_t> sized_context::sequence_at_rest() const {
    return rest().put(sequence());
}

void sized_context::refill_from_rest(std::span<const uint8_t> at_rest,
                                     std::span<const token_kind> kinds) {
    std::vector<uint8_t> storage;
    refill(rest().take(at_rest, storage), kinds);
}

void sized_context::restore_from_rest(std::span<const uint8_t> at_rest, int32_t n_cells) {
    open(n_cells);
    std::vector<uint8_t> storage;
    restore(rest().take(at_rest, storage), n_cells);
}

void sized_context::restore(std::span<const uint8_t> sequence, int32_t n_cells) {
    open(n_cells);
    if (!holds_numbers(sequence, kv_cache::forms(get()))) {
        throw std::invalid_argument(
            "state: a cell holds what is no number; expected what state() gave");
    }
    forget_errors();
    if (llama_state_seq_set_data(get(), sequence.data(), sequence.size(), 0) != sequence.size()) {
        clear();
        throw bad_argument("state",
                           "it does not fit this model's KV cache: " + last_logged_error());
    }
}

void sized_context::move(int32_t n_cells, bool to_read) {
    const int32_t wanted = cells_for(std::max(n_cells, n_used().value_or(0)));
    if (size() == wanted && (to_read ? reads_prompts_ : kept_ == keeps_other_types())) {
        if (to_read) {
            make_compressor();
        }
        return;
    }
    std::vector<uint8_t> cells = sequence();
    const std::vector<token_kind> made_from = kinds();
    const std::vector<cache_form> form = forms();
    if (to_read) {
        make(wanted, options_.n_ubatch);
    } else {
        open_for_answer(wanted);
    }
    put(std::move(cells), form);
    if (to_read) {
        make_compressor();
        restore_kinds(made_from);
    }
    return_to_system();
}

void sized_context::take_over(const sized_context & other, int32_t n_cells) {
    open_for_answer(n_cells);
    put(other.sequence(), other.forms());
}

std::vector<cache_form> sized_context::forms() const {
    return keeps_other_types() ? kv_cache::forms(get()) : std::vector<cache_form>();
}

void sized_context::put(std::vector<uint8_t> cells, const std::vector<cache_form> & form) {
    if (const std::vector<cache_form> here = forms(); here != form) {
        cells = convert_sequence(cells, form, here, thread_count(options_));
    }
    forget_errors();
    if (llama_state_seq_set_data(get(), cells.data(), cells.size(), 0) != cells.size()) {
        throw std::runtime_error("the sequence cannot be moved to a KV cache of " +
                                 std::to_string(size()) + " cells: " + last_logged_error());
    }
}

} // namespace lookm
