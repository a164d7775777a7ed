#pragma once

#include "lookm/graph/score_graph.h"

namespace lookm {

// The implementations of each add_scores. They agree to f32 rounding if keys are f32; for other key
// types, ggml's matrix product also rounds q. Tests compare them with one reference.

// On a CPU. Need runner.on_cpu() and tensors in host memory; the first one also max_bias = 0.
void add_scores_on_host(graph_runner & runner, const attention & attn, const score_sums & out);
void add_scores_on_host(graph_runner & runner, const ggml_tensor * probs, const score_sums & out);

// Minimum memory in bytes that the first one needs, with one thread.
size_t score_bytes_on_host(const graph_runner & runner, const attention & attn,
                           const score_sums & out);

// As a ggml graph. Throw refused_op if the backend does not support a node.
void add_scores_on_device(graph_runner & runner, const attention & attn, const score_sums & out);
void add_scores_on_device(graph_runner & runner, const ggml_tensor * probs, const score_sums & out);

// For a backend that does not support a node of the graph: copy the inputs to the host, compute
// there (cpu.on_cpu()), and copy the sums back.
void add_scores_staged(graph_runner & cpu, const attention & attn, const score_sums & out);
void add_scores_staged(graph_runner & cpu, const ggml_tensor * probs, const score_sums & out);

} // namespace lookm
