#include "lookm/server/slot_records.h"

#include <algorithm>

namespace lookm::server {

namespace {

bool contains(const std::vector<asked_ratio> & ratios, const asked_ratio & ratio) {
    return std::any_of(ratios.begin(), ratios.end(),
                       [&ratio](const asked_ratio & one) { return same_ratio(one, ratio); });
}

} // namespace

prompt_cells & slot_records::set(int32_t slot, const prompt_cells & cells) {
    return by_slot_[slot] = cells;
}

void slot_records::copy(int32_t from, int32_t slot, int32_t task) {
    by_slot_[slot] = by_slot_[from];
    by_slot_[slot].task = task;
}

bool slot_records::is_last(int32_t slot, int32_t task) const {
    const auto found = by_slot_.find(slot);
    return found != by_slot_.end() && found->second.task == task;
}

std::vector<prompt_cells> slot_records::all() const {
    std::vector<prompt_cells> out;
    for (const auto & [slot, cells] : by_slot_) {
        out.push_back(cells);
    }
    return out;
}

void slot_records::add_ratio(const packed_cells & packed, const asked_ratio & ratio) {
    std::vector<asked_ratio> & ratios = ratios_by_shape_[{packed.pos, packed.n}];
    if (!contains(ratios, ratio)) {
        ratios.push_back(ratio);
    }
}

bool slot_records::has_ratio(const packed_cells & packed, const asked_ratio & ratio,
                             const asked_ratio & default_ratio) const {
    const auto found = ratios_by_shape_.find({packed.pos, packed.n});
    return found == ratios_by_shape_.end() ? same_ratio(ratio, default_ratio)
                                           : contains(found->second, ratio);
}

} // namespace lookm::server
