#include "lookm/session/opened_model.h"

#include "lookm/core/bad_argument.h"
#include "lookm/model/adapter.h"
#include "lookm/prompt/pruned_images.h"
#include "lookm/session/checks.h"
#include "lookm/session/memory_check.h"

#include <utility>

namespace lookm {

namespace {

std::shared_ptr<llama_model> load_checked(const model_options & options) {
    check_compute_bytes(options.compute_bytes);
    check_memory(options);
    return load_shared_model(options);
}

std::shared_ptr<llama_model> shared_with(const model_options & options,
                                         const opened_model & other) {
    check_compute_bytes(options.compute_bytes);
    if (options.model_path != other.options.model_path) {
        throw bad_argument("model_path", "\"" + options.model_path + "\" for the weights of \"" +
                                             other.options.model_path +
                                             "\"; expected the same file");
    }
    return other.weights;
}

} // namespace

opened_model::opened_model(const model_options & given)
    : opened_model(given, load_checked(given)) {}

opened_model::opened_model(const model_options & given, const opened_model & other)
    : opened_model(given, shared_with(given, other)) {}

opened_model::opened_model(const model_options & given, std::shared_ptr<llama_model> loaded)
    : options(given), weights(std::move(loaded)), markers(random_markers()),
      mmproj(load_mmproj(weights.get(), options, markers.image)),
      projector(mmproj ? read_projector(options.mmproj_path) : projector_facts()),
      templates(weights.get(), options.model_path, options.chat_template) {
    options.lora = load_lora(weights.get(), options);
}

prompt opened_model::tokenize(const prompt_request & request, bool begins) const {
    prompt p = lookm::tokenize(weights.get(), mmproj.get(), request.text, markers, request.images,
                               request.contexts, begins);
    prune(p, pruning_of(request.how), projector);
    return p;
}

} // namespace lookm
