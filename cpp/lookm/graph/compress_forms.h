#pragma once

#include "lookm/graph/compress_graph.h"

namespace lookm {

// The two implementations of merging and packing, given the matches. Their results agree to f32
// rounding; tests compare them.
void merge_on_host(graph_runner & runner, const kv_layer & layer, const method & m,
                   const layer_plan & plan, const matches & matched);
void merge_on_device(graph_runner & runner, const kv_layer & layer, const method & m,
                     const layer_plan & plan, const matches & matched);

// For a backend that does not support a node of merge_on_device: copies the layer's rows to the
// host, merges them there and copies the result back.
matches compress_staged(graph_runner & cpu, const kv_layer & layer, const method & m,
                        const layer_plan & plan);

} // namespace lookm
