#include "lookm/plan/memory_plan.h"

#include <algorithm>

namespace lookm {

size_t memory_plan::peak() const {
    return std::max({preparing.total(), reading.total(), answering.total()});
}

bool memory_plan::fits() const {
    // scratch is freed before the kept cells are copied
    const size_t compressing = reading.total() - reading.moving + scratch;
    return std::max(peak(), compressing) <= memory && prompt_cells <= n_ctx;
}

} // namespace lookm
