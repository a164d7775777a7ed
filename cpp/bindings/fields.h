#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <type_traits>
#include <variant>
#include <vector>

// Binds a C++ struct of options that has for_each_field(): it becomes a Python class whose fields
// are keyword arguments of the constructor and read-only attributes.

template <class T>
struct unwrapped {
    using type = T;
};
template <class T>
struct unwrapped<std::optional<T>> {
    using type = T;
};

// Raises ValueError "name is value, expected ...", in the same form as the checks in Python.
[[noreturn]] inline void refuse_value(const char * name, pybind11::handle value,
                                      const std::string & expected) {
    const auto brief = pybind11::module_::import("lookm_cpp.brief").attr("brief");
    throw pybind11::value_error(std::string(name) + " is " + brief(value).cast<std::string>() +
                                ", expected " + expected);
}

// Converts a Python value to the type of a field. Does not convert between types, such as 1 to True
// or "1" to 1, except an int to a float. Raises ValueError for a value of another type.
template <class T>
T field_value(const char * name, pybind11::handle value) {
    using plain = typename unwrapped<T>::type;
    pybind11::detail::make_caster<T> caster;
    if (caster.load(value, /*convert =*/std::is_floating_point_v<plain> ||
                               std::is_same_v<plain, std::variant<double, std::string>> ||
                               std::is_same_v<plain, std::vector<float>> ||
                               std::is_same_v<plain, std::map<int32_t, float>>)) {
        return pybind11::detail::cast_op<T>(std::move(caster));
    }
    PyErr_Clear();
    if constexpr (std::is_same_v<plain, std::variant<double, std::string>>) {
        refuse_value(name, value, "a number or \"auto\"");
    } else if constexpr (std::is_same_v<plain, bool>) {
        refuse_value(name, value, "True or False");
    } else if constexpr (std::is_integral_v<plain>) {
        using limits = std::numeric_limits<plain>;
        if (PyIndex_Check(value.ptr()) == 0) {
            refuse_value(name, value, "a whole number");
        }
        const bool is_large = value.attr("__gt__")(0).equal(pybind11::bool_(true));
        refuse_value(name, value,
                     is_large ? "at most " + std::to_string(limits::max())
                              : std::to_string(limits::min()) + " or more");
    } else if constexpr (std::is_floating_point_v<plain>) {
        refuse_value(name, value, "a number");
    } else if constexpr (std::is_same_v<plain, std::string>) {
        refuse_value(name, value, PyUnicode_Check(value.ptr()) ? "text that is UTF-8" : "a string");
    } else if constexpr (std::is_same_v<plain, std::map<int32_t, float>>) {
        refuse_value(name, value, "a dict of tokens and numbers");
    } else {
        refuse_value(name, value, "numbers");
    }
}

// The struct with the given fields instead of their defaults. Raises TypeError for an unknown
// field, and ValueError for a value of another type.
template <class T>
T from_fields(const pybind11::kwargs & given) {
    T out;
    std::vector<std::string> known;
    for_each_field(static_cast<T *>(nullptr), [&](const char * name, auto member) {
        known.emplace_back(name);
        if (given.contains(name)) {
            out.*member = field_value<std::decay_t<decltype(out.*member)>>(name, given[name]);
        }
    });
    for (const auto & item : given) {
        const auto name = std::string(pybind11::str(item.first));
        if (std::find(known.begin(), known.end(), name) == known.end()) {
            throw pybind11::type_error("unexpected keyword argument: " + name);
        }
    }
    return out;
}

template <class T>
void bind_fields(pybind11::module_ & m, const char * name) {
    pybind11::class_<T> bound(m, name);
    bound.def(pybind11::init([](const pybind11::kwargs & given) { return from_fields<T>(given); }));
    for_each_field(static_cast<T *>(nullptr), [&bound](const char * field, auto member) {
        bound.def_readonly(field, member);
    });
}
