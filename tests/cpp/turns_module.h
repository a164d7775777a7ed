#pragma once

#include <pybind11/pybind11.h>

// plan_round, SlotView, CacheView, Phase: the server's rounds, without a server.
void bind_turns(pybind11::module_ & m);
