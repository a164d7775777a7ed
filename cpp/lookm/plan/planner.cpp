#include "lookm/plan/planner.h"

#include "lookm/cache/accumulators.h"
#include "lookm/cache/capped_reader.h"
#include "lookm/core/bad_argument.h"
#include "lookm/session/checks.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>

namespace lookm {

namespace {

constexpr int32_t n_step = 256; // cells: sized_context's granularity
// bytes: glibc gives larger pieces back to the system when they are freed
constexpr size_t malloc_keeps = 32 << 20;

uint64_t memory_of_devices() {
    uint64_t memory = 0;
    for (size_t i = 0; i < ggml_backend_dev_count(); ++i) {
        size_t free = 0, total = 0;
        ggml_backend_dev_memory(ggml_backend_dev_get(i), &free, &total);
        memory += total;
    }
    return memory;
}

void check_at_least(const char * argument, int64_t value, int64_t least) {
    if (value < least) {
        throw bad_argument(argument, std::to_string(value) + ", expected " + std::to_string(least) +
                                         " or more");
    }
}

// The largest n in [low, high] that is good, where all below a good one are good; low - 1 when none
// is.
template <class Good>
int32_t last_good(int32_t low, int32_t high, Good good) {
    while (low <= high) {
        const int32_t middle = low + (high - low) / 2;
        if (good(middle)) {
            low = middle + 1;
        } else {
            high = middle - 1;
        }
    }
    return high;
}

} // namespace

planner::planner(const model_options & options)
    : dry_(options), context_(std::make_unique<sized_context>(dry_.weights.get(), dry_.options)),
      n_ctx_(context_->limit()), cap_(context_->cap()) {
    check_decoder_only(dry_.weights.get(), context_->get(), dry_.options);
    smallest_ = kv_cache::bytes_by_use(context_->get());
}

context_bytes planner::open(int64_t n_cells) {
    context_->open(static_cast<int32_t>(n_cells));
    return kv_cache::bytes_by_use(context_->get());
}

// Images are decoded and prepared one after the other, before anything is read. The peak is one of
// three moments of the last image:
// - decoded: Pillow's pixels of four bytes each, and the RGB made of them
// - scaled: mtmd's two copies in RGB, one scaled in one direction, and three scaled in both
// - done: one scaled copy, and the image as the encoder gets it. Of what was freed, only large
//   pieces are the system's again.
stage_bytes planner::preparing(int32_t n_images) const {
    stage_bytes out;
    out.encoder_weights = encoding_.weights;
    out.weights = smallest_.weights;
    out.kv = smallest_.cells;
    out.compute = smallest_.compute;
    const size_t before = (n_images - 1) * encoding_.prepared;
    const size_t rgb = 3 * n_pixels_;
    const size_t scaled = encoding_.prepared / sizeof(float);
    const auto half_scaled =
        static_cast<size_t>(std::sqrt(static_cast<double>(rgb) * static_cast<double>(scaled)));
    size_t kept = 0;
    // smaller images take the place of what was freed
    if (encoding_.prepared / pattern_->n_tiles > malloc_keeps) {
        kept = (scaled <= malloc_keeps ? 2 * scaled : 0) +
               (half_scaled <= malloc_keeps ? half_scaled : 0);
    }
    out.pictures = before + std::max({4 * n_pixels_ + rgb, 2 * rgb + half_scaled + 3 * scaled,
                                      2 * rgb + scaled + encoding_.prepared + kept});
    return out;
}

// Cells that are left of a prompt that is read through the cap: a session's reader, which only
// counts here.
int32_t planner::kept_through(int32_t n_images, const plan_request & request,
                              const compress_options & options) {
    compress_options whole = options;
    whole.kind = pattern_->kinds(n_images);
    capped_reader reader(whole, pattern_->parts(n_images), cap_, dry_.options.n_batch,
                         request.n_answer);
    while (const int32_t n = reader.plan().n_next()) {
        reader.make_room(n);
        reader.added(n);
    }
    const compress_options left = reader.finish(evicts(options));
    return evicts(options) ? budget_of(left, left.kind).n_keep() : reader.plan().n_held();
}

memory_plan planner::plan_for(int32_t n_images, const plan_request & request,
                              const compress_options & options) {
    const std::vector<token_kind> kinds = pattern_->kinds(n_images);
    const bool compressed = evicts(options);
    memory_plan p;
    p.prompt_cells = static_cast<int32_t>(kinds.size());
    p.text_cells = static_cast<int32_t>(std::count(kinds.begin(), kinds.end(), token_kind::text));
    p.kept_cells =
        compressed ? make_budget(options.method, options.ratios, kinds).n_keep() : p.prompt_cells;
    p.n_ctx = n_ctx_;
    p.scratch = compressed ? static_cast<size_t>(dry_.options.compute_bytes) : 0;

    // as session::prefill opens it
    const int32_t n_full = p.prompt_cells + (compressed ? 0 : request.n_answer);
    context_bytes reading = open(n_full);
    p.kv_full = reading.cells;
    int32_t most = INT32_MAX; // cells that are allocated for the answer
    if (cap_ > 0) {
        most = (cap_ + n_step - 1) / n_step * n_step;
        if (capped_reader::needed(p.prompt_cells, cap_, request.n_answer)) {
            p.kept_cells = kept_through(n_images, request, options);
            p.scratch = static_cast<size_t>(dry_.options.compute_bytes);
        }
        reading = cap_ < n_full ? open(cap_) : reading;
        p.kv_capped = reading.cells;
    }
    p.preparing = preparing(n_images);
    p.reading.weights = reading.weights;
    p.reading.encoder_weights = encoding_.weights;
    p.reading.encoder_compute = encoding_.compute;
    p.reading.pictures = n_images * encoding_.prepared;
    p.reading.kv = reading.cells;
    p.reading.compute = reading.compute;
    if (context_->unsupported().empty()) { // a compressor is made with the context
        const kv_cache kv(context_->get());
        p.reading.scores = accumulators::bytes_for(kv.layers()) *
                           (compressed && needs_squares(options.method) ? 2 : 1) *
                           (compressed && options.automatic ? 2 : 1); // a copy to choose by
    }
    p.answering = p.reading;
    p.kv_kept = p.reading.kv;
    const int32_t size = context_->size();
    const bool other_types = context_->keeps_other_types();
    if (p.kept_cells == p.prompt_cells && !other_types) {
        return p;
    }
    const int32_t n_window = std::min({p.prompt_cells, kv_cache::window_cells(context_->get()),
                                       llama_model_n_swa(dry_.weights.get())});
    const size_t per_cell = context_->bytes_per_cell();
    // as sequence::shrink does
    context_->open_for_answer(std::min(std::max(p.kept_cells, n_window) + request.n_answer, most));
    if (context_->size() == size && !other_types) { // sequence::shrink moves nothing
        return p;
    }
    const context_bytes answering = kv_cache::bytes_by_use(context_->get());
    const size_t windows = answering.cells - context_->size() * context_->bytes_per_cell();
    // in the types that they were read in
    p.reading.moving = p.kept_cells * per_cell + windows * per_cell / context_->bytes_per_cell();
    p.answering.kv = p.kv_kept = answering.cells;
    p.answering.compute = answering.compute;
    p.answering.scores = 0;
    if (other_types) { // the copy as it was read and the converted one
        p.answering.moving = p.reading.moving + answering.cells -
                             (context_->size() - p.kept_cells) * context_->bytes_per_cell();
    }
    return p;
}

int32_t planner::most_images(const plan_request & request, const compress_options & options) {
    return last_good(1, pattern_->most_images(n_ctx_), [&](int32_t n) {
        try {
            memory_plan p = plan_for(n, request, options);
            p.memory = request.memory;
            return p.fits();
        } catch (const std::invalid_argument &) { // the cap is too small for n images
            return false;
        }
    });
}

memory_plan planner::plan(const std::string & one, const std::string & two,
                          const image_size & image, const plan_request & request) {
    check_at_least("images", request.n_images, 1);
    check_at_least("max_tokens", request.n_answer, 0);
    const compress_options options = checked(request.how);
    n_pixels_ = size_t(image.width) * image.height;
    const image_source black = [&] {
        return mtmd::bitmap(image.width, image.height, std::vector<uint8_t>(3 * n_pixels_).data());
    };
    const image_source blank = [&] { return mtmd::bitmap(image.width, image.height, nullptr); };
    const std::vector<image_source> both(2, blank); // only to be counted
    const prompt first = dry_.tokenize(one, {&black, 1}, request.how);
    check_ubatch(first, dry_.encoder->get(), dry_.options);
    pattern_ = std::make_unique<prompt_pattern>(first, dry_.tokenize(two, both, request.how));
    pattern_->whole =
        std::any_of(first.chunks.begin(), first.chunks.end(), [&](const prompt_chunk & c) {
            return c.image && mtmd_decode_use_non_causal(dry_.encoder->get(), c.image);
        });
    encoding_ = dry_.encoder->measure(first);

    plan_request filled = request;
    filled.memory = request.memory ? request.memory : memory_of_devices();
    filled.n_answer = std::min(request.n_answer, n_ctx_);
    const int64_t n_cells = pattern_->n_cells(request.n_images) + filled.n_answer;
    if (n_cells > most_planned) {
        throw bad_argument("images", std::to_string(request.n_images) +
                                         " with their prompt and answer "
                                         "are " +
                                         std::to_string(n_cells) + " cells, expected at most " +
                                         std::to_string(most_planned));
    }
    // a plan may ask for more cells than n_ctx or the cap, and is told so
    model_options roomy = dry_.options;
    roomy.n_ctx = std::max(n_ctx_, static_cast<int32_t>(n_cells));
    roomy.kv_cells = 0;
    roomy.kv_memory = 0;
    context_ = std::make_unique<sized_context>(dry_.weights.get(), roomy);
    check_supported(request.how, context_->unsupported());

    memory_plan p = plan_for(request.n_images, filled, options);
    p.memory = filled.memory;
    p.most_images = most_images(filled, options);
    return p;
}

} // namespace lookm
