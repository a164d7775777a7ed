#include "lookm/prompt/text_run.h"

#include "common.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace lookm {

namespace {

using tokens = std::vector<llama_token>;

bool has_attr(const llama_vocab * vocab, llama_token token, int attr) {
    return (llama_vocab_get_attr(vocab, token) & attr) != 0;
}

// Whether the tokenizer looks for this token before it splits the text in any other way.
bool special(const llama_vocab * vocab, llama_token token) {
    return has_attr(vocab, token,
                    LLAMA_TOKEN_ATTR_CONTROL | LLAMA_TOKEN_ATTR_UNKNOWN |
                        LLAMA_TOKEN_ATTR_USER_DEFINED);
}

class piece_tokenizer {
  public:
    explicit piece_tokenizer(const llama_model * model) : vocab_(llama_model_get_vocab(model)) {
        char value[8] = {};
        const bool named = llama_model_meta_val_str(model, "tokenizer.ggml.add_space_prefix", value,
                                                    sizeof(value)) >= 0;
        adds_space_ = llama_vocab_type(vocab_) == LLAMA_VOCAB_TYPE_SPM &&
                      !(named && std::strcmp(value, "false") == 0);
    }

    tokens text(const std::string & piece, bool first) const {
        return piece_tokens(piece, true, first);
    }

    // Merging may produce a control token from ordinary text. Its text is then tokenized in two
    // parts, so that it stays text. (A control token of one character cannot be split and is left
    // out.)
    tokens context(const std::string & piece, bool first) const {
        tokens out;
        for (const llama_token token : piece_tokens(piece, false, first)) {
            if (!has_attr(vocab_, token, LLAMA_TOKEN_ATTR_CONTROL)) {
                out.push_back(token);
                continue;
            }
            const std::string name = llama_vocab_get_text(vocab_, token);
            size_t head = 1;
            // do not split within a UTF-8 character
            while (head < name.size() && (name[head] & 0xC0) == 0x80) {
                ++head;
            }
            for (const std::string & part : {name.substr(0, head), name.substr(head)}) {
                const tokens split = part.size() < name.size() ? context(part, false) : tokens();
                out.insert(out.end(), split.begin(), split.end());
            }
        }
        return out;
    }

    // Whether text after this token is tokenized as if it were at the beginning.
    bool starts_anew(llama_token last) const { return special(vocab_, last); }

  private:
    tokens piece_tokens(const std::string & piece, bool parse_special, bool first) const {
        if (first || !adds_space_) {
            return tokens_of(vocab_, piece, parse_special);
        }
        // Tokenize a separator and the piece together, so that the space goes before the separator.
        // If no token spans both, the tokens after the separator's are those of the piece alone.
        for (const char * separator : {"\n", "|", "0"}) {
            const tokens before = tokens_of(vocab_, separator, parse_special);
            const tokens all = tokens_of(vocab_, separator + piece, parse_special);
            const bool ordinary = std::none_of(before.begin(), before.end(),
                                               [&](llama_token t) { return special(vocab_, t); });
            if (ordinary && all.size() >= before.size() &&
                std::equal(before.begin(), before.end(), all.begin())) {
                return {all.begin() + static_cast<std::ptrdiff_t>(before.size()), all.end()};
            }
        }
        return tokens_of(vocab_, piece, parse_special);
    }

    const llama_vocab * vocab_;
    bool adds_space_;
};

} // namespace

std::vector<llama_token> tokens_of(const llama_vocab * vocab, const std::string & text,
                                   bool parse_special) {
    try {
        return common_tokenize(vocab, text, false, parse_special);
    } catch (const std::out_of_range &) {
        throw std::invalid_argument(
            "the model's vocabulary has no token for a byte of the text; expected a GGUF "
            "file with a complete vocabulary");
    }
}

text_run tokenize_run(const llama_model * model, const std::string & text,
                      const std::string & marker, std::span<const std::string> contexts) {
    const piece_tokenizer tokenizer(model);
    text_run run;
    bool first = true;
    const auto append = [&](const tokens & piece, token_kind kind) {
        run.tokens.insert(run.tokens.end(), piece.begin(), piece.end());
        run.kind.resize(run.tokens.size(), kind);
        first = run.tokens.empty() || tokenizer.starts_anew(run.tokens.back());
    };
    size_t start = 0;
    for (const std::string & context : contexts) {
        const size_t end = text.find(marker, start);
        append(tokenizer.text(text.substr(start, end - start), first), token_kind::text);
        append(tokenizer.context(context, first), token_kind::image);
        start = end + marker.size();
    }
    append(tokenizer.text(text.substr(start), first), token_kind::text);
    return run;
}

} // namespace lookm
