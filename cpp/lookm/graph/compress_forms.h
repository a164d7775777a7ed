#pragma once

#include "lookm/graph/compress_graph.h"

namespace lookm {

// The two forms of merging and packing, given what was matched. They agree to f32 rounding; tests
// hold them against each other.
void merge_on_host(graph_runner & runner, const kv_layer & layer, const method & how,
                   const layer_plan & plan, const matches & m);
void merge_on_device(graph_runner & runner, const kv_layer & layer, const method & how,
                     const layer_plan & plan, const matches & m);

// For a backend that refuses a node of the device form: the layer's rows are copied to the host,
// merged there by the host form, and copied back.
matches compress_staged(graph_runner & cpu, const kv_layer & layer, const method & how,
                        const layer_plan & plan);

} // namespace lookm
