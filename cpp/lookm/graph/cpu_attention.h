#pragma once

struct ggml_compute_params;
struct ggml_tensor;

// ggml's CPU backend calls this for GGML_OP_FLASH_ATTN_EXT (third_party/llama_cpp.cmake). It
// computes the same as ggml, but faster: ggml converts keys, values and masks number by number, for
// each head and, with a quantized cache or few queries, for each query again. What this does not
// know is passed on to ggml: heads whose size is no multiple of a vector's, queries other than f32,
// and little memory. With LOOKM_ATTENTION=ggml in the environment, everything is.
//
// A query's result does not depend on the number of threads, nor on the queries beside it, as long
// as there are either 64 and more or fewer. The exception is a single query with more threads than
// heads of keys. With fewer than 64, it does not depend on hidden cells between those that are seen
// either.
extern "C" void lookm_flash_attn_ext(const ggml_compute_params * params, ggml_tensor * dst);
