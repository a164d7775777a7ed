#include "lookm/graph/compress_graph.h"

#include "lookm/graph/compress_forms.h"
#include "lookm/graph/match_graph.h"
#include "lookm/graph/match_host.h"

#include <cassert>

namespace lookm {

merge_weights weights_of(merge rule) {
    switch (rule) {
        case merge::pivot:
            return {0.5f, 0.5f, false}; // each evicted row is first averaged with its pivot
        case merge::weighted:
            return {0.0f, 1.0f, true};
        case merge::average:
        case merge::none:
            break;
    }
    return {0.0f, 1.0f, false};
}

matches compress_layer(graph_runner & runner, const kv_layer & layer, const method & m,
                       const layer_plan & plan, bool on_device) {
    assert(!m.merge_within_modality || !plan.kind.empty());
    matches matched;
    if (m.merge != merge::none && !plan.evicted.empty()) {
        const bool with_weight = weights_of(m.merge).by_cosine || m.filter != filter::all;
        const auto kind = m.merge_within_modality ? plan.kind : std::span<const token_kind>();
        const match_task task = {plan.kept, plan.evicted, kind, with_weight};
        matched = on_device ? match_on_device(runner, layer.k, task)
                            : match_on_host(runner, layer.k, task);
        filter_matches(matched, m.filter, layer.k.n_head_kv);
    }
    on_device ? merge_on_device(runner, layer, m, plan, matched)
              : merge_on_host(runner, layer, m, plan, matched);
    return matched;
}

} // namespace lookm
