#include "turns_module.h"

#include "lookm/core/turn_balance.h"
#include "lookm/core/turns.h"

#include <pybind11/stl.h>

namespace py = pybind11;
using namespace py::literals;

void bind_turns(py::module_ & m) {
    using lookm::cache_view;
    using lookm::round_plan;
    using lookm::slot_phase;
    using lookm::slot_view;
    py::enum_<slot_phase>(m, "Phase")
        .value("IDLE", slot_phase::idle)
        .value("WAITS_FOR_PARENT", slot_phase::waits_for_parent)
        .value("STARTS", slot_phase::starts)
        .value("READS", slot_phase::reads)
        .value("ANSWERS", slot_phase::answers);
    py::class_<slot_view>(m, "SlotView")
        .def(py::init<>())
        .def_readwrite("id", &slot_view::id)
        .def_readwrite("phase", &slot_view::phase)
        .def_readwrite("task", &slot_view::task)
        .def_readwrite("parent", &slot_view::parent)
        .def_readwrite("completes", &slot_view::completes)
        .def_readwrite("observed", &slot_view::observed)
        .def_readwrite("has_images", &slot_view::has_images)
        .def_readwrite("n_prompt", &slot_view::n_prompt)
        .def_readwrite("n_held", &slot_view::n_held)
        .def_readwrite("n_cells", &slot_view::n_cells)
        .def_readwrite("n_ctx", &slot_view::n_ctx)
        .def_readwrite("n_answered", &slot_view::n_answered)
        .def_readwrite("n_answer_max", &slot_view::n_answer_max)
        .def_readwrite("ratio", &slot_view::ratio)
        .def_readwrite("last_used", &slot_view::last_used);
    py::class_<cache_view>(m, "CacheView")
        .def(py::init<>())
        .def_readwrite("shared", &cache_view::shared)
        .def_readwrite("n_cells", &cache_view::n_cells)
        .def_readwrite("n_free", &cache_view::n_free)
        .def_readwrite("n_free_draft", &cache_view::n_free_draft);
    py::class_<round_plan>(m, "RoundPlan")
        .def_readonly("held", &round_plan::held)
        .def_readonly("cleared", &round_plan::cleared)
        .def_readonly("reader", &round_plan::reader)
        .def_readonly("alternates", &round_plan::alternates);
    py::class_<lookm::turn_balance>(m, "TurnBalance")
        .def(py::init<>())
        .def_readonly_static("most_rounds", &lookm::turn_balance::most_rounds)
        .def("is_readers", &lookm::turn_balance::is_readers)
        .def("took", &lookm::turn_balance::took, "task"_a, "reader"_a, "seconds"_a);
    m.def(
        "plan_round",
        [](const std::vector<slot_view> & slots, const cache_view & cache, bool readers_turn) {
            return lookm::plan_round(slots, cache, readers_turn);
        },
        "slots"_a, "cache"_a, "readers_turn"_a);
}
