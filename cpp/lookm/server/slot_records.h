#pragma once

#include "lookm/cache/kv_cache.h"
#include "lookm/server/settings.h"

#include "llama.h"

#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

namespace lookm::server {

// Cells of a prompt before and after its compression.
struct prompt_cells {
    int32_t task = -1;
    int32_t prompt = 0;
    int32_t kept = 0;
    int32_t pruned = 0; // cells of its images that were not read
    std::optional<double> chosen_ratio = {}, attention_held = {}; // as in compress_result
};

// The last prompt of each slot, and the ratios that packed cells were made with.
class slot_records {
  public:
    // Replaces what is known of the slot. The reference stays valid.
    prompt_cells & set(int32_t slot, const prompt_cells & cells);
    // Another slot, with another task, gets a copy of a slot's cells.
    void copy(int32_t from, int32_t slot, int32_t task);
    // Whether the slot's last prompt that was read to its end is of this task.
    bool is_last(int32_t slot, int32_t task) const;
    std::vector<prompt_cells> all() const;
    const prompt_cells & of(int32_t slot) const { return by_slot_.at(slot); }

    void add_ratio(const packed_cells & packed, const asked_ratio & ratio);
    // Whether these cells may have been made with this ratio; default_ratio is assumed for cells
    // that are not known, such as those from a slot file of an earlier server.
    bool has_ratio(const packed_cells & packed, const asked_ratio & ratio,
                   const asked_ratio & default_ratio) const;

  private:
    std::map<int32_t, prompt_cells> by_slot_;
    // Packed cells carry no mark of their ratio, and they move (slot files, prompt cache). Their
    // position and number identify them; ratios that keep the same number are not told apart.
    std::map<std::pair<llama_pos, int32_t>, std::vector<asked_ratio>> ratios_by_shape_;
};

} // namespace lookm::server
