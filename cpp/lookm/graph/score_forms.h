#pragma once

#include "lookm/graph/score_graph.h"

namespace lookm {

// The two forms of each add_scores. They agree to f32 rounding, but for keys of another type, where
// ggml's product rounds q to that type's partner too; tests hold them against one reference.

// Need runner.on_cpu() and tensors in host memory; the first also max_bias = 0.
void add_scores_on_host(graph_runner & runner, const attention & attn, const score_sums & out);
void add_scores_on_host(graph_runner & runner, const ggml_tensor * probs, const score_sums & out);

// What the first takes at least, with one thread.
size_t score_bytes_on_host(const graph_runner & runner, const attention & attn,
                           const score_sums & out);

void add_scores_on_device(graph_runner & runner, const attention & attn, const score_sums & out);
void add_scores_on_device(graph_runner & runner, const ggml_tensor * probs, const score_sums & out);

// For a backend that refuses a node of the graph: its inputs are copied to the host, and the sums
// back. cpu.on_cpu().
void add_scores_staged(graph_runner & cpu, const attention & attn, const score_sums & out);
void add_scores_staged(graph_runner & cpu, const ggml_tensor * probs, const score_sums & out);

} // namespace lookm
