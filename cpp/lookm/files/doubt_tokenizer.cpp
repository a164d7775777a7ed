#include "lookm/files/doubt_list.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <string_view>

namespace lookm {

namespace {

constexpr size_t most_tokens = 1 << 20; // limit of what is compared

constexpr std::string_view tokenizers[] = {
    "llama", "bert", "gpt2",   "hybriddna", "whitespace", "t5",
    "rwkv",  "test", "plamo2", "gemma4",    "none",       "no_vocab",
};

// Finds a token that occurs twice. Sorts instead of hashing, so that no file can make it slow by
// texts with the same hash.
void doubt_twins(doubt_list & doubts, const std::vector<const char *> & tokens) {
    if (tokens.size() > most_tokens) {
        return;
    }
    std::vector<uint32_t> order(tokens.size());
    std::iota(order.begin(), order.end(), 0u);
    std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
        const int sign = std::strcmp(tokens[a], tokens[b]);
        return sign != 0 ? sign < 0 : a < b;
    });
    const auto same = [&](uint32_t a, uint32_t b) {
        return *tokens[a] && std::strcmp(tokens[a], tokens[b]) == 0;
    };
    const auto twin =
        std::adjacent_find(order.begin(), order.end(), same); // llama.cpp renames empty ones
    if (twin != order.end()) {
        doubts.add("tokenizer.ggml.tokens",
                   quoted(tokens[*twin]) + " at both " + std::to_string(twin[0]) + " and " +
                       std::to_string(twin[1]),
                   "each token once");
    }
}

} // namespace

void doubt_tokenizer(doubt_list & doubts) {
    const std::string model = "tokenizer.ggml.model", tokens = "tokenizer.ggml.tokens";
    const gguf_header & file = doubts.file;
    doubts.check_type(model, GGUF_TYPE_STRING);
    doubts.check_type(tokens, GGUF_TYPE_ARRAY);
    const std::vector<const char *> list = file.texts(tokens);
    if (const auto name = file.text(model)) {
        const std::string is = quoted(*name);
        if (std::find(std::begin(tokenizers), std::end(tokenizers), *name) ==
            std::end(tokenizers)) {
            doubts.add(model, is, "a tokenizer that llama.cpp knows");
        } else if ((*name == "none" || *name == "no_vocab") && !list.empty()) {
            doubts.add(model, is,
                       "the tokenizer of its " + std::to_string(list.size()) + " tokens");
        } else if (*name == "llama" && file.has("tokenizer.ggml.merges") &&
                   !file.has("tokenizer.ggml.scores")) {
            doubts.add(model, is, "another one, as its tokens have merges but no scores");
        }
    }
    doubt_twins(doubts, list);
}

} // namespace lookm
