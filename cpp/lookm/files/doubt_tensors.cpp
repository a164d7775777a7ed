#include "lookm/files/doubt_list.h"

#include <algorithm>
#include <cstdlib>
#include <set>

namespace lookm {

namespace {

constexpr size_t most_blocks = 4096, most_names = 256; // limits of what is compared

// Splits "v.blk.12.attn_k.weight" into block 12 and "attn_k.weight". Returns false for other names.
bool split(const std::string & name, const std::string & prefix, uint32_t & block,
           std::string & rest) {
    if (name.rfind(prefix, 0) != 0) {
        return false;
    }
    const size_t begin = prefix.size(), end = name.find_first_not_of("0123456789", begin);
    if (end == begin || end == std::string::npos || name[end] != '.' || end - begin > 6) {
        return false;
    }
    block = static_cast<uint32_t>(std::strtoul(name.c_str() + begin, nullptr, 10));
    rest = name.substr(end + 1);
    return true;
}

std::string other_half(const std::string & name) {
    const size_t dot = name.rfind('.');
    const std::string half = dot == std::string::npos ? "" : name.substr(dot);
    return half == ".weight" ? name.substr(0, dot) + ".bias"
           : half == ".bias" ? name.substr(0, dot) + ".weight"
                             : "";
}

// Finds tensors that a block has lost. As the blocks of some models differ by design, a tensor
// counts as lost only if all other blocks have it, and this block has either its other half (a bias
// without its weight) or a tensor with nearly the same name that no other block has.
void doubt_lost(doubt_list & doubts, const std::string & prefix) {
    std::map<uint32_t, std::set<std::string>> blocks;
    std::map<std::string, size_t> counts;
    for (const auto & [name, tensor] : doubts.file.tensors()) {
        uint32_t block = 0;
        std::string rest;
        if (split(name, prefix, block, rest) && blocks[block].insert(rest).second) {
            ++counts[rest];
        }
    }
    if (blocks.size() < 2 || blocks.size() > most_blocks || counts.size() > most_names) {
        return;
    }
    for (const auto & [lost, count] : counts) {
        if (count + 1 != blocks.size()) {
            continue;
        }
        for (const auto & [block, names] : blocks) {
            if (names.count(lost)) {
                continue;
            }
            const auto instead =
                std::find_if(names.begin(), names.end(), [&](const std::string & name) {
                    return counts[name] == 1 && nearly_same(name, lost);
                });
            const std::string path = prefix + std::to_string(block) + ".";
            if (instead != names.end()) {
                doubts.add(path + lost, "missing",
                           "as in all other blocks, and no " + path + *instead);
            } else if (names.count(other_half(lost))) {
                doubts.add(path + lost, "missing", "as in all other blocks");
            }
        }
    }
}

void doubt_quantized(doubt_list & doubts) {
    for (const auto & [name, tensor] : doubts.file.tensors()) {
        if (tensor.n_dims == 1 && ggml_is_quantized(tensor.type)) {
            doubts.add(name, std::string("of type ") + ggml_type_name(tensor.type),
                       "f32 for one row of numbers");
            return;
        }
    }
}

} // namespace

bool nearly_same(const std::string & a, const std::string & b) {
    size_t n = 0;
    for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
        n += a[i] != b[i];
    }
    return a.size() == b.size() && n > 0 && n <= 2;
}

uint32_t count_blocks(const gguf_header & file, const std::string & prefix) {
    uint32_t n = 0, block = 0;
    std::string rest;
    for (auto it = file.tensors().lower_bound(prefix); it != file.tensors().end(); ++it) {
        if (it->first.rfind(prefix, 0) != 0) {
            break;
        }
        n = split(it->first, prefix, block, rest) ? std::max(n, block + 1) : n;
    }
    return n;
}

bool blocks_have(const gguf_header & file, const std::string & prefix, const std::string & start) {
    uint32_t block = 0;
    std::string rest;
    return std::any_of(file.tensors().begin(), file.tensors().end(), [&](const auto & tensor) {
        return split(tensor.first, prefix, block, rest) && rest.rfind(start, 0) == 0;
    });
}

void doubt_tensors(doubt_list & doubts) {
    doubt_lost(doubts, "v.blk.");
    doubt_lost(doubts, "blk.");
    doubt_quantized(doubts);
}

} // namespace lookm
