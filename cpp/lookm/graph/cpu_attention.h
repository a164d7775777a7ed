#pragma once

struct ggml_compute_params;
struct ggml_tensor;

// ggml's CPU backend calls this for GGML_OP_FLASH_ATTN_EXT (third_party/llama_cpp.cmake). Of a
// prompt's batches it computes the same as ggml, but faster: ggml converts keys and masks number by
// number, and with a quantized cache, it computes query by query. All else, such as the single
// token of an answer, is passed on to ggml. With LOOKM_ATTENTION=ggml in the environment,
// everything is.
//
// A query's result does not depend on the number of threads, nor on the queries beside it.
extern "C" void lookm_flash_attn_ext(const ggml_compute_params * params, ggml_tensor * dst);
