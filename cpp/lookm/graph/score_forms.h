#pragma once

#include "lookm/graph/score_graph.h"

namespace lookm {

// The two forms of add_scores for a flash-attention node. They agree to f32 rounding, but for f16 keys, where ggml's
// product rounds q to f16 too; tests hold them against one reference.

// Needs runner.on_cpu(), tensors in host memory, and max_bias = 0.
void add_scores_on_host(graph_runner & runner, const attention & attn, const ggml_tensor * sum);
void add_scores_on_device(graph_runner & runner, const attention & attn, const ggml_tensor * sum);

} // namespace lookm
