#include "lookm/session/answer_grammar.h"

#include "lookm/core/bad_argument.h"
#include "lookm/prompt/grammar_limits.h"
#include "lookm/prompt/schema_grammar.h"

#include "chat.h"
#include "reasoning-budget.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <exception>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace lookm {

namespace {

using tokens = std::vector<llama_token>;

// When a lazy grammar begins: at one of these tokens, or where the text matches a pattern.
struct triggers {
    tokens of_tokens;
    std::vector<std::string> patterns;
};

triggers triggers_of(const common_chat_params & form, const llama_vocab * vocab) {
    triggers found;
    for (const common_grammar_trigger & trigger : form.grammar_triggers) {
        switch (trigger.type) {
            case COMMON_GRAMMAR_TRIGGER_TYPE_TOKEN:
                found.of_tokens.push_back(trigger.token);
                break;
            case COMMON_GRAMMAR_TRIGGER_TYPE_WORD:
                if (const tokens one = common_tokenize(vocab, trigger.value, false, true);
                    one.size() == 1) {
                    found.of_tokens.push_back(one[0]);
                } else {
                    found.patterns.push_back(regex_escape(trigger.value));
                }
                break;
            case COMMON_GRAMMAR_TRIGGER_TYPE_PATTERN:
                found.patterns.push_back(trigger.value);
                break;
            case COMMON_GRAMMAR_TRIGGER_TYPE_PATTERN_FULL:
                found.patterns.push_back("^(?:" + trigger.value + ")$");
                break;
        }
    }
    return found;
}

// The tokens with which the template has begun the answer.
tokens begun(const common_chat_params & form, const llama_vocab * vocab) {
    const std::string & text = form.generation_prompt;
    if (text.empty()) {
        return {};
    }
    tokens found = common_tokenize(vocab, text, false, true);
    const auto is_space = [](char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; };
    // some tokenizers put a space before what they begin with
    if (const std::string first = common_token_to_piece(vocab, found.at(0), true);
        !first.empty() && is_space(first[0]) && !is_space(text[0])) {
        found.erase(found.begin());
    }
    return found;
}

llama_sampler_ptr lazy_grammar(const common_chat_params & form, const llama_vocab * vocab) {
    const triggers at = triggers_of(form, vocab);
    std::vector<const char *> patterns;
    for (const std::string & pattern : at.patterns) {
        patterns.push_back(pattern.c_str());
    }
    return llama_sampler_ptr{llama_sampler_init_grammar_lazy_patterns(
        vocab, form.grammar.c_str(), "root", patterns.data(), patterns.size(), at.of_tokens.data(),
        at.of_tokens.size())};
}

llama_sampler_ptr reasoning_of(const common_chat_params & form, const llama_vocab * vocab) {
    if (form.thinking_start_tag.empty() || form.thinking_end_tags.empty()) {
        return nullptr;
    }
    std::vector<tokens> ends;
    for (const std::string & tag : form.thinking_end_tags) {
        ends.push_back(common_tokenize(vocab, tag, false, true));
    }
    llama_sampler_ptr made{common_reasoning_budget_init(
        vocab, {common_tokenize(vocab, form.thinking_start_tag, false, true)}, ends, ends.front(),
        std::numeric_limits<int32_t>::max())};
    for (const llama_token token : begun(form, vocab)) {
        llama_sampler_accept(made.get(), token);
    }
    return made;
}

llama_sampler_ptr plain_grammar(const std::string & text, const llama_vocab * vocab) {
    return llama_sampler_ptr{llama_sampler_init_grammar(vocab, text.c_str(), "root")};
}

void check_limits(const std::string & text, const char * argument) {
    if (const std::string why = grammar_over_limits(text); !why.empty()) {
        throw bad_argument(argument, why);
    }
}

} // namespace

answer_grammar answer_grammar::of_form(const chat_prompt & prompt, const llama_vocab * vocab) {
    const common_chat_params & form = prompt.form();
    const char * const argument = prompt.has_tools() ? "tools" : "response_format";
    check_limits(form.grammar, argument);
    answer_grammar made(
        form.grammar_lazy ? lazy_grammar(form, vocab) : plain_grammar(form.grammar, vocab), vocab);
    if (!made.grammar_) {
        throw bad_argument(argument, "llama.cpp cannot parse the grammar that the chat template "
                                     "makes of it");
    }
    if (form.grammar_lazy) {
        made.reasoning_ = reasoning_of(form, vocab);
        return made;
    }
    try {
        for (const llama_token token : begun(form, vocab)) {
            llama_sampler_accept(made.grammar_.get(), token);
        }
    } catch (const std::exception & e) {
        throw bad_argument(argument, std::string("the grammar that the chat template makes of it "
                                                 "does not begin as its answers do: ") +
                                         e.what());
    }
    return made;
}

std::optional<answer_grammar> answer_grammar::of(const sampling_options & sampling,
                                                 const llama_vocab * vocab,
                                                 const chat_prompt * prompt) {
    const bool has_form = prompt && !prompt->form().grammar.empty();
    if (sampling.grammar.empty() && sampling.json_schema.empty()) {
        return has_form ? std::optional(of_form(*prompt, vocab)) : std::nullopt;
    }
    const char * const argument = sampling.grammar.empty() ? "response_format" : "grammar";
    if (has_form) {
        throw bad_argument(argument, std::string("it is given beside ") +
                                         (prompt->has_tools() ? "tools"
                                                              : "a schema "
                                                                "(response_format)") +
                                         ", expected one of them");
    }
    const std::string text = sampling.grammar.empty()
                                 ? grammar_of_schema(sampling.json_schema, argument)
                                 : sampling.grammar;
    check_limits(text, argument);
    answer_grammar made(plain_grammar(text, vocab), vocab);
    if (!made.grammar_) {
        throw bad_argument(argument, "llama.cpp cannot parse it; expected GBNF with a rule "
                                     "\"root\", and no rule that begins with itself");
    }
    return made;
}

bool answer_grammar::is_on() const {
    if (!reasoning_) {
        return true;
    }
    const common_reasoning_budget_state state = common_reasoning_budget_get_state(reasoning_.get());
    return state == REASONING_BUDGET_IDLE || state == REASONING_BUDGET_DONE;
}

bool answer_grammar::allows(llama_token token) const {
    llama_token_data one = {token, 1.0f, 0.0f};
    llama_token_data_array candidates = {&one, 1, -1, false};
    apply(candidates);
    return !std::isinf(one.logit);
}

void answer_grammar::apply(llama_token_data_array & candidates) const {
    if (!is_on()) {
        return;
    }
    llama_sampler_apply(grammar_.get(), &candidates);
    for (size_t i = 0; i < candidates.size; ++i) {
        llama_token_data & one = candidates.data[i];
        if (!std::isinf(one.logit) && !is_text(one.id)) {
            one.logit = -INFINITY;
        }
    }
}

std::string answer_grammar::piece_of(llama_token token) const {
    return common_token_to_piece(vocab_, token, false);
}

bool answer_grammar::is_text(llama_token token) const {
    const std::string piece = piece_of(token);
    utf8_tail then = tail_;
    return piece.empty() ? tail_.is_whole() : then.add(piece);
}

void answer_grammar::accept(llama_token token) {
    const bool was_on = is_on();
    tail_.add(piece_of(token));
    if (reasoning_) {
        llama_sampler_accept(reasoning_.get(), token);
    }
    if (was_on) {
        llama_sampler_accept(grammar_.get(), token);
        return;
    }
    // what ends the reasoning may be what the grammar waits for
    if (common_reasoning_budget_get_state(reasoning_.get()) == REASONING_BUDGET_DONE) {
        if (const auto * end = common_reasoning_budget_get_end_match(reasoning_.get())) {
            for (const llama_token one : *end) {
                llama_sampler_accept(grammar_.get(), one);
            }
        }
    }
}

} // namespace lookm
