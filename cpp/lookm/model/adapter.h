#pragma once

#include "lookm/model/model_options.h"

#include "llama.h"

namespace lookm {

// The LoRA adapter options.lora_path, which lives as long as the model; nullptr if that is "".
// Throws bad_argument for a wrong option or file, and out_of_memory.
llama_adapter_lora * load_lora(llama_model * model, const model_options & options);

} // namespace lookm
