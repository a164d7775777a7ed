#include "lookm/graph/compress_graph.h"

#include "lookm/graph/compress_forms.h"

namespace lookm {

merge_weights weights_of(merge how) {
    switch (how) {
        case merge::pivot:
            return {0.5f, 0.5f, false}; // each evicted row is halved with its pivot first
        case merge::weighted:
            return {0.0f, 1.0f, true};
        case merge::average:
        case merge::none:
            break;
    }
    return {0.0f, 1.0f, false};
}

matches compress_layer(graph_runner & runner, const kv_layer & layer, merge how, const layer_plan & plan,
                       bool on_device) {
    return on_device ? compress_on_device(runner, layer, how, plan) : compress_on_host(runner, layer, how, plan);
}

} // namespace lookm
