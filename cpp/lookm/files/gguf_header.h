#pragma once

#include "ggml-cpp.h"
#include "gguf.h"

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace lookm {

// The keys of a GGUF file, and the names, types and shapes of its tensors, without their data. A
// split file has the tensors of all its parts.
class gguf_header {
  public:
    struct tensor {
        ggml_type type = GGML_TYPE_F32;
        int n_dims = 1;
        int64_t shape[GGML_MAX_DIMS] = {};
    };

    // A part that cannot be read counts as empty.
    explicit gguf_header(const std::vector<std::string> & parts);

    bool has(const std::string & key) const { return find(key) >= 0; }
    std::optional<gguf_type> type(const std::string & key) const;
    std::string type_name(const std::string & key) const; // "u32", "arr"
    // nullopt if the key is missing or of another type.
    std::optional<uint32_t> u32(const std::string & key) const;
    std::optional<float> f32(const std::string & key) const;
    std::optional<std::string> text(const std::string & key) const;
    std::vector<const char *> texts(const std::string & key) const; // an array

    const std::map<std::string, tensor> & tensors() const { return tensors_; }
    const tensor * find_tensor(const std::string & name) const;

  private:
    int64_t find(const std::string & key) const;
    bool is(const std::string & key, gguf_type type) const { return this->type(key) == type; }

    gguf_context_ptr keys_; // of the first part
    std::map<std::string, tensor> tensors_;
};

} // namespace lookm
