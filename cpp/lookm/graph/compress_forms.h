#pragma once

#include "lookm/graph/compress_graph.h"

namespace lookm {

// The two forms of compress_layer. They agree to f32 rounding; tests hold them against each other.
matches compress_on_host(graph_runner & runner, const kv_layer & layer, merge how, const layer_plan & plan);
matches compress_on_device(graph_runner & runner, const kv_layer & layer, merge how, const layer_plan & plan);

} // namespace lookm
