#include "lookm/cache/score_tap.h"

#include "lookm/core/bad_argument.h"
#include "lookm/graph/score_forms.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

namespace lookm {

namespace {

// The view of the cache that a node reads as K, before llama.cpp's cast (for f32 caches)
const ggml_tensor * view_of(const ggml_tensor * k) {
    while (k->op == GGML_OP_CPY || (k->view_src && k->view_src->op == GGML_OP_CPY)) {
        k = k->op == GGML_OP_CPY ? k->src[0] : k->view_src;
    }
    return k;
}

const ggml_tensor * storage_of(const ggml_tensor * k) {
    const ggml_tensor * view = view_of(k);
    return view->view_src ? view->view_src : view;
}

// K of an attention node: of a softmax, found through scales and softcaps in its matrix product
const ggml_tensor * k_of(const ggml_tensor * node) {
    if (node->op == GGML_OP_FLASH_ATTN_EXT) {
        return node->src[1];
    }
    while (node && node->op != GGML_OP_MUL_MAT) {
        node = node->src[0];
    }
    return node ? node->src[0] : nullptr;
}

// n elements of t along one dimension: a tensor on the same data, for as_leaf()
ggml_tensor part(const ggml_tensor * t, int dim, int64_t from, int64_t n) {
    ggml_tensor p = *t;
    p.ne[dim] = n;
    p.data = static_cast<char *>(t->data) + from * t->nb[dim];
    return p;
}

template <class Input>
void add_scores_anywhere(graph_runner & runner, graph_runner & cpu, const Input & input,
                         const score_sums & out) {
    try {
        add_scores(runner, input, out);
    } catch (const refused_op &) {
        add_scores_staged(cpu, input, out);
    }
}

float op_param(const ggml_tensor * node, int i) {
    float value;
    std::memcpy(&value, reinterpret_cast<const char *>(node->op_params) + i * sizeof(float),
                sizeof(float));
    return value;
}

} // namespace

score_tap::score_tap(kv_cache & kv, size_t compute_bytes)
    : kv_(kv), sums_(kv.layers()),
      runners_{graph_runners(compute_bytes), graph_runner(kv.cpu_backend(), compute_bytes)} {}

score_tap::~score_tap() {
    disarm();
}

void score_tap::arm(const tap_plan & plan) {
    if (plan.first_query < 0) {
        throw bad_argument("first_query",
                           std::to_string(plan.first_query) + ", expected 0 or more");
    }
    plan_ = plan;
    if (!plan.squares) {
        squares_.reset();
    } else if (!squares_) {
        squares_.emplace(kv_.layers());
    }
    forget();
    queries_.begin(kv_.layers());
    error_ = nullptr;
    seconds_ = 0.0;
    runners_.peak = 0;
    listen();
}

void score_tap::forget(int64_t n_rows, llama_seq_id seq) {
    sums_.clear();
    if (squares_) {
        squares_->clear();
    }
    if (n_rows > 0) {
        const int64_t next = queries_.most_seen(kv_.stream_of(seq)) + n_rows;
        plan_.first_query = static_cast<int32_t>(std::max(next, int64_t(plan_.first_query)));
    }
}

void score_tap::restore(size_t i, const std::vector<cell> & cells,
                        const std::vector<float> & scores, const std::vector<float> & squares) {
    sums_.write(i, cells, scores);
    if (squares_ && !squares.empty()) {
        squares_->write(i, cells, squares);
    }
    queries_.set_seen(i);
}

void score_tap::move(size_t i, int32_t stream, std::span<const int32_t> from,
                     std::span<const int32_t> to, std::span<const int32_t> emptied) {
    sums_.move(i, stream, from, to, emptied);
    if (squares_) {
        squares_->move(i, stream, from, to, emptied);
    }
}

void score_tap::listen() {
    if (!armed_) {
        kv_.set_eval_callback(on_node, this);
        armed_ = true;
    }
}

void score_tap::begin_after(int64_t n) {
    plan_.first_query = static_cast<int32_t>(std::max<int64_t>(0, plan_.first_query - n));
}

void score_tap::disarm() {
    if (armed_) {
        kv_.set_eval_callback(nullptr, nullptr);
        armed_ = false;
        const size_t bytes = runners_.by_backend.peak_bytes() + runners_.cpu.peak_bytes();
        runners_.peak = std::max(runners_.peak, bytes);
        runners_.by_backend.clear();
    }
}

void score_tap::rethrow() {
    if (error_) {
        std::rethrow_exception(std::exchange(error_, nullptr));
    }
}

bool score_tap::on_node(ggml_tensor * node, bool ask, void * self) {
    auto & tap = *static_cast<score_tap *>(self);
    const int layer = tap.layer_of(node);
    if (layer < 0) {
        return !ask;
    }
    const auto i = static_cast<size_t>(layer);
    const node_queries here = tap.queries_of(node, i);
    if (ask) {
        const bool counts = !tap.queries_.are_before(here, i, tap.plan_.first_query);
        if (!counts) { // the callback does not get the node again
            tap.queries_.add(here, i, tap.kv_.n_readers(i));
        }
        return counts;
    }
    const auto start = std::chrono::steady_clock::now();
    try {
        tap.observe(node, here, i);
    } catch (...) { // the caller is C code, which exceptions must not pass through
        tap.error_ = std::current_exception();
        return false;
    }
    tap.seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return true;
}

int score_tap::layer_of(const ggml_tensor * node) const {
    if (node->op != GGML_OP_FLASH_ATTN_EXT && node->op != GGML_OP_SOFT_MAX) {
        return -1;
    }
    const ggml_tensor * k = k_of(node);
    const ggml_tensor * storage = k ? storage_of(k) : nullptr;
    const std::vector<kv_layer> & layers = kv_.layers();
    const auto found = std::find_if(layers.begin(), layers.end(), [storage](const kv_layer & l) {
        return l.k.storage == storage;
    });
    return found == layers.end() ? -1 : static_cast<int>(found - layers.begin());
}

node_queries score_tap::queries_of(const ggml_tensor * node, size_t i) const {
    const ggml_tensor * by_query = node->op == GGML_OP_FLASH_ATTN_EXT ? node->src[0] : node;
    const ggml_tensor * storage = kv_.layers()[i].k.storage;
    node_queries here = {by_query->ne[1], 0, by_query->ne[3]};
    if (const ggml_tensor * k = storage->ne[2] > 1 ? k_of(node) : nullptr) {
        here.stream = static_cast<int64_t>(view_of(k)->view_offs / storage->nb[2]);
    }
    return here;
}

void score_tap::observe(ggml_tensor * node, const node_queries & here, size_t i) {
    graph_runner & runner = runners_.by_backend.of(kv_.backend_of(node));
    for (int64_t s = 0; s < here.n_stream; ++s) {
        const int64_t from =
            std::clamp<int64_t>(plan_.first_query - queries_.n_seen(i, here.stream + s), 0, here.n);
        if (from == here.n) {
            continue;
        }
        const auto of_stream = [s](const ggml_tensor * t) { return part(t, 3, s, 1); };
        const auto from_row = [from](const ggml_tensor & t) {
            return part(&t, 1, from, t.ne[1] - from);
        };
        const ggml_tensor sum = part(sums_.tensor(i), 2, here.stream + s, 1);
        const ggml_tensor square =
            squares_ ? part(squares_->tensor(i), 2, here.stream + s, 1) : sum;
        const score_sums out = {&sum, squares_ ? &square : nullptr};
        if (node->op == GGML_OP_SOFT_MAX) {
            const ggml_tensor probs = from_row(of_stream(node));
            add_scores_anywhere(runner, runners_.cpu, &probs, out);
            continue;
        }
        const ggml_tensor q = from_row(of_stream(node->src[0]));
        const ggml_tensor k = of_stream(node->src[1]);
        const ggml_tensor mask = from_row(of_stream(node->src[3]));
        const attention attn = {
            &q, &k, &mask, node->src[4], op_param(node, 0), op_param(node, 1), op_param(node, 2)};
        add_scores_anywhere(runner, runners_.cpu, attn, out);
    }
    queries_.add(here, i, kv_.n_readers(i));
}

std::vector<float> score_tap::scores(size_t i, const std::vector<cell> & cells) const {
    if (!queries_.has_seen(i)) {
        throw std::runtime_error("KV compression: attention of layer " +
                                 std::to_string(kv_.layers()[i].il) +
                                 " ran on another device than its cache; expected flash_attn auto "
                                 "or off on this device");
    }
    return sums_.read(i, cells);
}

std::vector<float> score_tap::squares(size_t i, const std::vector<cell> & cells) const {
    if (!squares_) {
        throw std::logic_error("score_tap: squares were not asked for");
    }
    return squares_->read(i, cells);
}

size_t score_tap::bytes() const {
    return sums_.bytes() + (squares_ ? squares_->bytes() : 0);
}

} // namespace lookm
