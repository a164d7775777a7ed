#pragma once

#include <pybind11/pybind11.h>

// attention_sums, probability_sums: the graphs that take scores, on one node's tensors made from
// NumPy arrays, with all that a node may bring (types of K, masks, softcap, sinks) and the public
// arrays module does not.
void bind_scores(pybind11::module_ & m);
