#include "lookm/plan/plan.h"

#include "lookm/cache/accumulators.h"
#include "lookm/cache/capped_reader.h"
#include "lookm/core/bad_argument.h"
#include "lookm/host/memory_room.h"
#include "lookm/model/flash_attn.h"
#include "lookm/session/checks.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>

namespace lookm {

namespace {

constexpr int32_t most_planned = 1 << 20; // images, and cells past which no context is planned
constexpr int32_t n_step = 256;           // cells: sized_context's granularity
constexpr size_t malloc_keeps =
    32 << 20; // bytes: glibc gives larger pieces back to the system when they are freed

size_t end_of_images(const std::vector<token_kind> & kinds) {
    const auto last = std::find(kinds.rbegin(), kinds.rend(), token_kind::image);
    return static_cast<size_t>(kinds.rend() - last);
}

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

size_t memory_plan::peak() const {
    return std::max({preparing.total(), reading.total(), answering.total()});
}

bool memory_plan::fits() const {
    // scratch is gone before the kept cells are copied
    const size_t compressing = reading.total() - reading.moving + scratch;
    return std::max(peak(), compressing) <= memory && prompt_cells <= n_ctx;
}

prompt_pattern::prompt_pattern(const prompt & one, const prompt & two) {
    const std::vector<token_kind> a = one.kinds();
    const std::vector<token_kind> b = two.kinds();
    const size_t first = end_of_images(a);
    const size_t second = end_of_images(b);
    if (second <= first || b.size() <= a.size()) {
        throw bad_argument("messages", "the chat template drops images");
    }
    size_t at = 0;
    for (const prompt_chunk & chunk : two.chunks) {
        segment & s = at < first ? before_ : at < second ? each_ : after_;
        const auto n = static_cast<size_t>(chunk.n_cells());
        s.kinds.insert(s.kinds.end(), b.begin() + static_cast<int64_t>(at),
                       b.begin() + static_cast<int64_t>(at + n));
        s.parts.push_back(chunk.n_cells());
        at += n;
    }
    image_cells =
        static_cast<int32_t>(std::count(each_.kinds.begin(), each_.kinds.end(), token_kind::image));
    mark_cells = static_cast<int32_t>(each_.kinds.size()) - image_cells;
    n_tiles = one.n_tiles();
}

std::vector<const prompt_pattern::segment *> prompt_pattern::segments(int32_t n_images) const {
    std::vector<const segment *> out = {&before_};
    out.insert(out.end(), n_images - 1, &each_);
    out.push_back(&after_);
    return out;
}

std::vector<token_kind> prompt_pattern::kinds(int32_t n_images) const {
    std::vector<token_kind> out;
    for (const segment * s : segments(n_images)) {
        out.insert(out.end(), s->kinds.begin(), s->kinds.end());
    }
    return out;
}

std::vector<prompt_part> prompt_pattern::parts(int32_t n_images) const {
    std::vector<prompt_part> out;
    for (const segment * s : segments(n_images)) {
        int32_t at = 0;
        for (const int32_t n : s->parts) {
            const token_kind kind = s->kinds[at];
            out.push_back(
                {.n_cells = n, .kind = kind, .whole = whole && kind == token_kind::image});
            at += n;
        }
    }
    return out;
}

int64_t prompt_pattern::n_cells(int32_t n_images) const {
    return std::ssize(before_.kinds) + (n_images - 1) * std::ssize(each_.kinds) +
           std::ssize(after_.kinds);
}

int32_t prompt_pattern::most_images(int32_t n_cells) const {
    const int64_t left = n_cells - this->n_cells(1);
    return left < 0 ? 0
                    : static_cast<int32_t>(
                          std::min<int64_t>(1 + left / std::ssize(each_.kinds), most_planned));
}

planner::planner(const model_options & options) : options_(options), markers_(random_markers()) {
    options_.no_alloc = true;
    check_room("a plan");
    check_compute_bytes(options_.compute_bytes);
    if (options_.mmproj_path.empty()) {
        throw bad_argument("mmproj", "\"\" is no file; expected the projector that images need");
    }
    model_ = load_model(options_, devices_);
    encoder_ = std::make_unique<dry_encoder>(model_.get(), options_, markers_.image);
    if (better_without_flash(model_.get(), options_)) {
        options_.flash_attn = "off";
    }
    room_ = std::make_unique<sized_context>(model_.get(), options_);
    check_decoder_only(model_.get(), room_->get(), options_);
    smallest_ = kv_cache::bytes_by_use(room_->get());
    n_ctx_ = room_->limit();
    cap_ = room_->cap();
    template_ =
        std::make_unique<chat_template>(model_.get(), options_.model_path, options_.chat_template);
}

context_bytes planner::open(int64_t n_cells) {
    room_->open(static_cast<int32_t>(n_cells));
    return kv_cache::bytes_by_use(room_->get());
}

// Images are decoded and prepared one after the other, before anything is read. Three moments of
// the last one count:
// - decoded: Pillow's pixels have four bytes each, and RGB is made of them
// - scaled: mtmd has it twice in RGB, scaled in one direction, and three times scaled in both
// - done: once scaled, and as the encoder gets it; what was freed of the rest is the system's again
// only if it was large
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
    if (encoding_.prepared / pattern_->n_tiles >
        malloc_keeps) { // or it takes the place of what was freed
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
    capped_reader reader(whole, pattern_->parts(n_images), cap_, options_.n_batch,
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
    p.scratch = compressed ? static_cast<size_t>(options_.compute_bytes) : 0;

    const int32_t n_full =
        p.prompt_cells + (compressed ? 0 : request.n_answer); // as session::prefill opens
    context_bytes reading = open(n_full);
    p.kv_full = reading.cells;
    int32_t most = INT32_MAX; // cells that are allocated for the answer
    if (cap_ > 0) {
        most = (cap_ + n_step - 1) / n_step * n_step;
        if (capped_reader::needed(p.prompt_cells, cap_, request.n_answer)) {
            p.kept_cells = kept_through(n_images, request, options);
            p.scratch = static_cast<size_t>(options_.compute_bytes);
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
    if (room_->unsupported().empty()) { // a compressor is made with the context
        const kv_cache kv(room_->get());
        p.reading.scores = accumulators::bytes_for(kv.layers()) *
                           (compressed && needs_squares(options.method) ? 2 : 1);
    }
    p.answering = p.reading;
    p.kv_kept = p.reading.kv;
    const int32_t size = room_->size();
    const bool other_types = room_->keeps_other_types();
    if (p.kept_cells == p.prompt_cells && !other_types) {
        return p;
    }
    const int32_t n_window = std::min(
        {p.prompt_cells, kv_cache::window_cells(room_->get()), llama_model_n_swa(model_.get())});
    const size_t per_cell = room_->bytes_per_cell();
    // as session::shrink does
    room_->open_for_answer(std::min(std::max(p.kept_cells, n_window) + request.n_answer, most));
    if (room_->size() == size && !other_types) { // session::shrink moves nothing
        return p;
    }
    const context_bytes answering = kv_cache::bytes_by_use(room_->get());
    const size_t windows = answering.cells - room_->size() * room_->bytes_per_cell();
    p.reading.moving =
        p.kept_cells * per_cell + windows * per_cell / room_->bytes_per_cell(); // as they were read
    p.answering.kv = p.kv_kept = answering.cells;
    p.answering.compute = answering.compute;
    p.answering.scores = 0;
    if (other_types) { // the copy as it was read and the converted one
        p.answering.moving = p.reading.moving + answering.cells -
                             (room_->size() - p.kept_cells) * room_->bytes_per_cell();
    }
    return p;
}

int32_t planner::most_images(const plan_request & request, const compress_options & options) {
    return last_good(1, pattern_->most_images(n_ctx_), [&](int32_t n) {
        try {
            memory_plan p = plan_for(n, request, options);
            p.memory = request.memory;
            return p.fits();
        } catch (
            const std::invalid_argument &) { // a cap that so many images cannot be read through
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
    const prompt first = tokenize(model_.get(), encoder_->get(), one, markers_, {&black, 1}, {});
    check_ubatch(first, encoder_->get(), options_);
    pattern_ = std::make_unique<prompt_pattern>(
        first, tokenize(model_.get(), encoder_->get(), two, markers_, both, {}));
    pattern_->whole =
        std::any_of(first.chunks.begin(), first.chunks.end(), [&](const prompt_chunk & c) {
            return c.image && mtmd_decode_use_non_causal(encoder_->get(), c.image);
        });
    encoding_ = encoder_->measure(first);

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
    model_options roomy =
        options_; // a plan may ask for more cells than n_ctx or the cap, and is told so
    roomy.n_ctx = std::max(n_ctx_, static_cast<int32_t>(n_cells));
    roomy.kv_cells = 0;
    roomy.kv_memory = 0;
    room_ = std::make_unique<sized_context>(model_.get(), roomy);
    check_supported(request.how, room_->unsupported());

    memory_plan p = plan_for(request.n_images, filled, options);
    p.memory = filled.memory;
    p.most_images = most_images(filled, options);
    return p;
}

} // namespace lookm
