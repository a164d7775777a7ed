#pragma once

#include <pybind11/pybind11.h>

// Binds attention_output, and attention_sums and probability_sums: attention and scoring on tensors made from NumPy arrays, with
// everything that an attention node may have (types of K, masks, softcap, sinks) and that the
// public module lookm_cpp.arrays does not offer.
void bind_scores(pybind11::module_ & m);
