# LOOKM_CPU_VARIANTS: ggml's CPU backend and our own kernels compiled once for each of several CPUs,
# all in one binary. The best one for the machine runs (cpu_variants.cpp). Wheels are built so.
#
# ggml has the same as shared libraries (GGML_BACKEND_DL). Here everything stays in one file whose
# symbols are hidden, so a process may also contain another package's llama.cpp, and no folder is
# searched for libraries.
#
# The objects of a variant are linked into one, in which only the names that cpu_variants.cpp calls
# stay visible, with the variant's name behind them. So no inline function that was compiled for
# AVX-512 can take the place of another's.

# Names and features as in ggml/src/CMakeLists.txt. A variant's ggml_backend_score() is 0 if the CPU
# lacks one of its features.
set(lookm_avx2 SSE42 AVX F16C FMA AVX2 BMI2)
set(lookm_avx512 ${lookm_avx2} AVX512)
set(lookm_variants_x86 x64 sse42 ivybridge haswell alderlake skylakex cascadelake icelake zen4
    sapphirerapids)
set(lookm_features_x64 "")
set(lookm_features_sse42 SSE42)
set(lookm_features_ivybridge SSE42 AVX F16C)
set(lookm_features_haswell ${lookm_avx2})
set(lookm_features_alderlake ${lookm_avx2} AVX_VNNI)
set(lookm_features_skylakex ${lookm_avx512})
set(lookm_features_cascadelake ${lookm_avx512} AVX512_VNNI)
set(lookm_features_icelake ${lookm_avx512} AVX512_VBMI AVX512_VNNI)
set(lookm_features_zen4 ${lookm_avx512} AVX512_VBMI AVX512_VNNI AVX512_BF16)
set(lookm_features_sapphirerapids ${lookm_avx512} AVX512_VBMI AVX512_VNNI AVX512_BF16 AMX_TILE AMX_INT8
    AMX_BF16) # the last one for our attention alone, which asks the CPU itself

set(lookm_variants_arm armv8_0 armv8_2 armv8_2_fp16 armv8_6)
set(lookm_features_armv8_0 "")
set(lookm_features_armv8_2 DOTPROD)
set(lookm_features_armv8_2_fp16 DOTPROD FP16_VECTOR_ARITHMETIC)
set(lookm_features_armv8_6 DOTPROD FP16_VECTOR_ARITHMETIC MATMUL_INT8)

set(lookm_flags_AVX512 -mavx512f -mavx512cd -mavx512vl -mavx512dq -mavx512bw)
set(lookm_flags_SSE42 -msse4.2)
set(lookm_arm_DOTPROD +dotprod)
set(lookm_arm_FP16_VECTOR_ARITHMETIC +fp16)
set(lookm_arm_MATMUL_INT8 +i8mm)

# Must stand before llama.cpp is added: its own ggml-cpu is for the oldest CPU, and not built.
macro(lookm_want_cpu_variants)
    if(NOT lookm_threads_used)
        message(FATAL_ERROR "LOOKM_CPU_VARIANTS: ${CMAKE_SYSTEM_NAME} with "
            "${CMAKE_CXX_COMPILER_ID}, LOOKM_THREADS=${LOOKM_THREADS} is not supported; expected "
            "Linux with GCC and LOOKM_THREADS=ON")
    endif()
    foreach(feature IN ITEMS NATIVE SSE42 AVX F16C FMA AVX2 BMI2)
        set(GGML_${feature} OFF)
    endforeach()
endmacro()

# Sets out to the compiler's flags for these features, and definitions to what cpu-feats.cpp and
# ggml's kernels know them by.
function(lookm_cpu_flags arch features out definitions)
    set(flags "")
    set(defined "")
    set(march "armv8-a")
    foreach(feature IN LISTS features)
        if(arch STREQUAL "x86")
            list(APPEND defined "GGML_${feature}")
            string(TOLOWER "${feature}" flag)
            if(flag MATCHES "^amx")
                string(REPLACE "_" "-" flag "${flag}")
            else()
                string(REPLACE "_" "" flag "${flag}")
            endif()
            if(DEFINED lookm_flags_${feature})
                set(flag ${lookm_flags_${feature}})
            else()
                set(flag "-m${flag}")
            endif()
            list(APPEND flags ${flag})
        else()
            list(APPEND defined "GGML_USE_${feature}")
            if(feature STREQUAL "DOTPROD")
                set(march "armv8.2-a")
            elseif(feature STREQUAL "MATMUL_INT8")
                string(REPLACE "armv8.2-a" "armv8.6-a" march "${march}")
            endif()
            string(APPEND march "${lookm_arm_${feature}}")
        endif()
    endforeach()
    if(NOT arch STREQUAL "x86")
        set(flags "-march=${march}")
    endif()
    set(${out} "${flags}" PARENT_SCOPE)
    set(${definitions} "${defined}" PARENT_SCOPE)
endfunction()

# Puts all variants into the library lookm_cpu, which takes the place of ggml-cpu. own: sources of
# ours that are compiled with them, which may include headers of this folder.
function(lookm_add_cpu_variants dir own include)
    if(CMAKE_SYSTEM_PROCESSOR STREQUAL "x86_64")
        set(arch x86)
    elseif(CMAKE_SYSTEM_PROCESSOR STREQUAL "aarch64")
        set(arch arm)
    else()
        message(FATAL_ERROR "LOOKM_CPU_VARIANTS: ${CMAKE_SYSTEM_PROCESSOR} is not supported; "
                            "expected x86_64 or aarch64")
    endif()
    set(names ggml_backend_cpu_reg ggml_cpu_fp16_to_fp32 ggml_cpu_fp32_to_fp16
        ggml_cpu_bf16_to_fp32 ggml_get_type_traits_cpu ggml_backend_score lookm_products
        lookm_tiles)
    get_target_property(sources ggml-cpu SOURCES)
    list(FILTER sources INCLUDE REGEX "\\.(c|cpp)$")
    list(TRANSFORM sources PREPEND "${dir}/ggml/src/")
    set(objects "")
    set(calls "")
    foreach(variant IN LISTS lookm_variants_${arch})
        lookm_cpu_flags(${arch} "${lookm_features_${variant}}" flags definitions)
        add_library(lookm_cpu_${variant} OBJECT EXCLUDE_FROM_ALL ${sources} ${own})
        target_compile_options(lookm_cpu_${variant} PRIVATE ${flags}
            $<TARGET_PROPERTY:ggml-cpu,COMPILE_OPTIONS> -w)
        target_compile_definitions(lookm_cpu_${variant} PRIVATE LOOKM_CPU_VARIANT="${variant}")
        lookm_cure_amx("${dir}" lookm_cpu_${variant})
        lookm_lead_attention("${dir}" lookm_cpu_${variant})
        add_library(lookm_cpu_${variant}_score OBJECT EXCLUDE_FROM_ALL
            "${dir}/ggml/src/ggml-cpu/arch/${arch}/cpu-feats.cpp")
        target_compile_definitions(lookm_cpu_${variant}_score PRIVATE GGML_BACKEND_DL)
        foreach(target IN ITEMS lookm_cpu_${variant} lookm_cpu_${variant}_score)
            target_compile_features(${target} PRIVATE cxx_std_20)
            target_include_directories(${target} PRIVATE "${include}" SYSTEM
                $<TARGET_PROPERTY:ggml-cpu,INCLUDE_DIRECTORIES>)
            target_compile_definitions(${target} PRIVATE ${definitions}
                $<TARGET_PROPERTY:ggml-cpu,COMPILE_DEFINITIONS>)
            # objcopy makes no local symbols of unique ones
            target_compile_options(${target} PRIVATE -fopenmp
                $<$<COMPILE_LANGUAGE:CXX>:-fno-gnu-unique>)
            target_link_libraries(${target} PRIVATE ggml-base)
        endforeach()
        set(whole "${CMAKE_CURRENT_BINARY_DIR}/lookm_cpu_${variant}.o")
        set(kept "")
        foreach(name IN LISTS names)
            list(APPEND kept "--keep-global-symbol=${name}_${variant}"
                             "--redefine-sym=${name}=${name}_${variant}")
        endforeach()
        add_custom_command(OUTPUT "${whole}"
            COMMAND "${CMAKE_LINKER}" -r --force-group-allocation -o "${whole}"
                $<TARGET_OBJECTS:lookm_cpu_${variant}> $<TARGET_OBJECTS:lookm_cpu_${variant}_score>
            COMMAND "${CMAKE_OBJCOPY}" ${kept} "${whole}"
            DEPENDS $<TARGET_OBJECTS:lookm_cpu_${variant}>
                $<TARGET_OBJECTS:lookm_cpu_${variant}_score>
            COMMAND_EXPAND_LISTS VERBATIM)
        list(APPEND objects "${whole}")
        string(APPEND calls "LOOKM_VARIANT(${variant})")
    endforeach()

    add_library(lookm_cpu STATIC "${PROJECT_SOURCE_DIR}/third_party/cpu_variants.cpp" ${objects})
    target_compile_features(lookm_cpu PRIVATE cxx_std_20)
    target_include_directories(lookm_cpu PRIVATE "${include}")
    target_compile_definitions(lookm_cpu PRIVATE "LOOKM_CPU_VARIANTS=${calls}")
    target_link_libraries(lookm_cpu PUBLIC ggml-base lookm_threads)
    foreach(property IN ITEMS LINK_LIBRARIES INTERFACE_LINK_LIBRARIES)
        get_target_property(linked ggml ${property})
        list(TRANSFORM linked REPLACE "^ggml-cpu$" "lookm_cpu")
        set_property(TARGET ggml PROPERTY ${property} "${linked}")
    endforeach()
endfunction()
