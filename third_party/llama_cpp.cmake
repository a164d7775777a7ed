# The llama.cpp that lookm_cpp is built on: its version, how it is fetched, and which of its private
# parts are used.
#
# lookm_add_llama_cpp() adds it as a static, position-independent sub-project. Its sources are those
# in the sdist of llama-cpp-python (MIT), which is fetched through pip by name and checked against
# LOOKM_LLAMA_SDIST_SHA256, or a checkout given as -DLOOKM_LLAMA_CPP_DIR=DIR.

set(LOOKM_LLAMA_SDIST_NAME "llama-cpp-python")
set(LOOKM_LLAMA_SDIST_VERSION "0.3.36")
set(LOOKM_LLAMA_SDIST_SHA256 "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e")

set(LOOKM_LLAMA_CPP_DIR "" CACHE PATH
    "A llama.cpp checkout to build against instead of the pinned one")
option(LOOKM_ACCEPT_HEADER_DRIFT
       "Build although llama.cpp's private headers differ from the known ones" OFF)
option(LOOKM_THREADS
       "Run ggml's OpenMP code on cpp/lookm/threads instead of libgomp (gcc on Linux only)" ON)

option(LOOKM_CPU_VARIANTS "Code for every CPU of the architecture in one binary (Linux, GCC)" OFF)
include("${CMAKE_CURRENT_LIST_DIR}/cpu_variants.cmake")

# The private headers that cpp/lookm/cache/private_caches.h includes, and those that they need,
# hashed together in this order.
set(LOOKM_PRIVATE_HEADERS
    src/llama-kv-cache.h src/llama-kv-cells.h src/llama-kv-cache-iswa.h src/llama-memory-hybrid.h
    src/llama-memory.h src/llama-context.h src/llama-cparams.h src/llama-model.h
    src/llama-hparams.h)
set(LOOKM_PRIVATE_HEADERS_SHA256 "2978b83272205ac1b47e869d863543648a5c4122b1cda5d1211b9cdceade3ffa")

function(lookm_fetch_llama_cpp out_dir)
    set(root "${CMAKE_BINARY_DIR}/_llama_cpp/${LOOKM_LLAMA_SDIST_VERSION}")
    execute_process(
        COMMAND "${Python_EXECUTABLE}" "${PROJECT_SOURCE_DIR}/third_party/fetch_sdist.py"
                "${LOOKM_LLAMA_SDIST_NAME}" "${LOOKM_LLAMA_SDIST_VERSION}"
                "${LOOKM_LLAMA_SDIST_SHA256}" "vendor/llama.cpp" "${root}"
        RESULT_VARIABLE rc ERROR_VARIABLE err)
    if(NOT rc EQUAL 0)
        string(STRIP "${err}" err)
        message(FATAL_ERROR
            "${err}\n"
            "-DLOOKM_LLAMA_CPP_DIR=DIR builds against your own llama.cpp checkout instead.")
    endif()
    set(${out_dir} "${root}" PARENT_SCOPE)
endfunction()

function(lookm_check_private_headers dir)
    set(text "")
    foreach(header IN LISTS LOOKM_PRIVATE_HEADERS)
        if(NOT EXISTS "${dir}/${header}")
            message(FATAL_ERROR
                "LOOKM_LLAMA_CPP_DIR: ${dir} has no ${header}; expected a llama.cpp checkout of "
                "about the version in ${LOOKM_LLAMA_SDIST_NAME} ${LOOKM_LLAMA_SDIST_VERSION}")
        endif()
        file(SHA256 "${dir}/${header}" hash)
        string(APPEND text "${header} ${hash}\n")
    endforeach()
    string(SHA256 hash "${text}")
    if(NOT hash STREQUAL LOOKM_PRIVATE_HEADERS_SHA256 AND NOT LOOKM_ACCEPT_HEADER_DRIFT)
        message(FATAL_ERROR
            "llama.cpp's private headers in ${dir} have changed (hash ${hash}; expected "
            "${LOOKM_PRIVATE_HEADERS_SHA256}).\n"
            "lookm_cpp uses them in cpp/lookm/cache/kv_cache*.cpp and private_caches.*, and in "
            "cpp/lookm/model/token_embeddings.cpp. Use the pinned llama.cpp (leave "
            "LOOKM_LLAMA_CPP_DIR empty), or follow 'Moving to another llama.cpp' in "
            "CONTRIBUTING.md and configure with -DLOOKM_ACCEPT_HEADER_DRIFT=ON.")
    endif()
endfunction()

# GCC before 13 drops stores of the AMX tile configuration in this file, so that quantized prompts
# end with SIGILL or SIGSEGV on CPUs with AMX. The cause is dead-store elimination, which is turned
# off for this file.
function(lookm_cure_amx dir target)
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
        set_source_files_properties("${dir}/ggml/src/ggml-cpu/amx/mmq.cpp"
                                    TARGET_DIRECTORY ${target} PROPERTIES
                                    COMPILE_OPTIONS "-fno-tree-dse;-fno-dse")
    endif()
endfunction()

# The CPU backend's flash attention goes through cpp/lookm/graph/cpu_attention.cpp, which must be
# among the target's sources.
function(lookm_lead_attention dir target)
    set_source_files_properties("${dir}/ggml/src/ggml-cpu/ggml-cpu.c"
                                TARGET_DIRECTORY ${target} PROPERTIES COMPILE_DEFINITIONS
                                "ggml_compute_forward_flash_attn_ext=lookm_flash_attn_ext")
endfunction()

# Pixtral's encoder clears uninitialised memory by multiplying it with zero. If there happens to be
# a NaN, it stays, and now and then the whole answer is garbage. This makes it fill the memory with
# zeros. Only while the file contains exactly that product, so a fixed llama.cpp does not change.
function(lookm_cure_pixtral dir)
    set(file "${dir}/tools/mtmd/models/pixtral.cpp")
    if(EXISTS "${file}")
        file(STRINGS "${file}" products REGEX "ggml_scale")
        list(LENGTH products n)
        if(n EQUAL 1 AND products MATCHES "ggml_scale\\(ctx0, tok, 0\\.0\\)")
            set_source_files_properties("${file}" TARGET_DIRECTORY mtmd PROPERTIES
                                        COMPILE_DEFINITIONS "ggml_scale=ggml_fill")
        endif()
    endif()
endfunction()

# Sets out to the compiler's options that include a header before the first line of a source.
function(lookm_include_first header out)
    if(MSVC)
        set(${out} "/FI${header}" PARENT_SCOPE)
    else()
        set(${out} "-include;${header}" PARENT_SCOPE)
    endif()
endfunction()

# Compiles a target's files a few at a time, as most of the time goes into the headers that they
# share. Files with options of their own stay alone, and so do those that are named. Relative paths
# are the same in every clone, for ccache.
option(LOOKM_UNITY_BUILD "Compile several files at a time; OFF rebuilds faster after a change" ON)
function(lookm_unite target)
    set_target_properties(${target} PROPERTIES
        UNITY_BUILD ${LOOKM_UNITY_BUILD} UNITY_BUILD_BATCH_SIZE 8 UNITY_BUILD_RELOCATABLE ON)
    target_compile_options(${target} PRIVATE $<$<CXX_COMPILER_ID:MSVC>:/bigobj>)
    if(ARGN)
        set_source_files_properties(${ARGN} TARGET_DIRECTORY ${target} PROPERTIES
            SKIP_UNITY_BUILD_INCLUSION ON)
    endif()
endfunction()

# llama.cpp does this itself for its language models. Here it is done for mtmd's image encoders and
# for common, without the files that may not see what others include.
function(lookm_unite_llama_cpp dir)
    get_target_property(files mtmd SOURCES)
    list(FILTER files EXCLUDE REGEX "^models/")
    list(TRANSFORM files PREPEND "${dir}/tools/mtmd/")
    lookm_unite(mtmd ${files})
    file(GLOB jinja "${dir}/common/jinja/*.cpp")
    lookm_unite(llama-common ${jinja} "${dir}/common/json.cpp"
        "${PROJECT_SOURCE_DIR}/third_party/jinja_limits.cpp")
endfunction()

# Lets memory plans use mtmd's image encoder without weights: mtmd.cpp's call of clip_init() goes
# through clip_init.h.
function(lookm_lead_clip_init dir)
    set(header "${PROJECT_SOURCE_DIR}/third_party/clip_init.h")
    lookm_include_first("${header}" included)
    set_source_files_properties("${dir}/tools/mtmd/mtmd.cpp" TARGET_DIRECTORY mtmd PROPERTIES
        COMPILE_OPTIONS "-I${PROJECT_SOURCE_DIR}/cpp;${included}" OBJECT_DEPENDS "${header}")
endfunction()

# ggml-cpu's OpenMP code runs on cpp/lookm/threads, whose threads sleep where libgomp's spin. Only
# for gcc on Linux, as other compilers call other functions and other systems wait in other ways.
# ggml-base has loops that need more of OpenMP. They only prepare the quantization of weights to IQ
# types, which is not used here, so they run on one thread (below).
macro(lookm_lead_openmp)
    if(LOOKM_THREADS AND CMAKE_SYSTEM_NAME STREQUAL "Linux" AND CMAKE_C_COMPILER_ID STREQUAL "GNU"
            AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
        list(PREPEND CMAKE_MODULE_PATH "${PROJECT_SOURCE_DIR}/third_party/openmp")
        set(lookm_threads_used ON)
    endif()
endmacro()

# Limits what chat templates can do (third_party/jinja_limits.h). The build fails if a llama.cpp no
# longer has one of the renamed functions.
function(lookm_limit_jinja dir)
    set(header "${PROJECT_SOURCE_DIR}/third_party/jinja_limits.h")
    lookm_include_first("${header}" included)
    foreach(source IN ITEMS runtime string value)
        set_source_files_properties("${dir}/common/jinja/${source}.cpp"
            TARGET_DIRECTORY llama-common
            PROPERTIES COMPILE_OPTIONS "${included}" OBJECT_DEPENDS "${header}")
    endforeach()
    foreach(renamed IN ITEMS
            jinja/parser:parse_from_tokens jinja/value:global_from_json
            chat:common_chat_templates_init chat:common_chat_templates_apply)
        string(REPLACE ":" ";" renamed ${renamed})
        list(GET renamed 0 source)
        list(GET renamed 1 name)
        set_property(SOURCE "${dir}/common/${source}.cpp" TARGET_DIRECTORY llama-common
                     APPEND PROPERTY COMPILE_DEFINITIONS "${name}=${name}_unlimited")
    endforeach()
    set_property(SOURCE "${dir}/common/jinja/value.cpp" TARGET_DIRECTORY llama-common
                 APPEND PROPERTY COMPILE_DEFINITIONS LOOKM_JINJA_VALUE)
    target_sources(llama-common PRIVATE "${PROJECT_SOURCE_DIR}/third_party/jinja_limits.cpp")
endfunction()

# Limits how long ggml's RPC client waits for an answer (third_party/rpc_recv.cpp); not on Windows
# or macOS.
function(lookm_limit_rpc dir)
    if(TARGET ggml-rpc AND UNIX AND NOT APPLE)
        set_source_files_properties("${dir}/ggml/src/ggml-rpc/transport.cpp"
                                    TARGET_DIRECTORY ggml-rpc
                                    PROPERTIES COMPILE_DEFINITIONS "recv=lookm_rpc_recv")
        target_sources(ggml-rpc PRIVATE "${PROJECT_SOURCE_DIR}/third_party/rpc_recv.cpp")
        target_compile_definitions(ggml-rpc INTERFACE LOOKM_RPC_LIMIT)
        target_include_directories(ggml-rpc INTERFACE "${PROJECT_SOURCE_DIR}/third_party")
    endif()
endfunction()

macro(lookm_add_llama_cpp)
    if(LOOKM_LLAMA_CPP_DIR)
        get_filename_component(lookm_llama_dir "${LOOKM_LLAMA_CPP_DIR}" ABSOLUTE)
    else()
        lookm_fetch_llama_cpp(lookm_llama_dir)
    endif()
    lookm_check_private_headers("${lookm_llama_dir}")

    set(BUILD_SHARED_LIBS OFF)
    set(LLAMA_BUILD_COMMON ON)   # chat templates
    set(LLAMA_BUILD_MTMD ON)     # image encoders
    set(LLAMA_BUILD_TOOLS OFF)
    set(LLAMA_BUILD_TESTS OFF)
    set(LLAMA_BUILD_EXAMPLES OFF)
    set(LLAMA_BUILD_SERVER OFF)
    set(LLAMA_BUILD_APP OFF)
    set(LLAMA_BUILD_UI OFF)
    set(LLAMA_USE_PREBUILT_UI OFF)
    set(LLAMA_OPENSSL OFF)
    set(MTMD_VIDEO OFF)
    option(GGML_RPC "ggml: use RPC" ON)  # only two more files, so every build has rpc_servers
    lookm_lead_openmp()
    if(LOOKM_CPU_VARIANTS)
        lookm_want_cpu_variants()
    endif()
    add_subdirectory("${lookm_llama_dir}" "${CMAKE_BINARY_DIR}/llama.cpp" EXCLUDE_FROM_ALL SYSTEM)
    lookm_cure_amx("${lookm_llama_dir}" ggml-cpu)
    if(NOT LOOKM_CPU_VARIANTS)
        lookm_lead_attention("${lookm_llama_dir}" ggml-cpu)
        set(attention "${PROJECT_SOURCE_DIR}/cpp/lookm/graph/cpu_attention.cpp")
        target_sources(ggml-cpu PRIVATE "${attention}")
        target_compile_features(ggml-cpu PRIVATE cxx_std_20)
        set_source_files_properties("${attention}" TARGET_DIRECTORY ggml-cpu PROPERTIES
            COMPILE_OPTIONS
            "-I${PROJECT_SOURCE_DIR}/cpp;$<$<CXX_COMPILER_ID:GNU,Clang,AppleClang>:-O3>")
    endif()
    lookm_cure_pixtral("${lookm_llama_dir}")
    lookm_lead_clip_init("${lookm_llama_dir}")
    lookm_unite_llama_cpp("${lookm_llama_dir}")
    if(lookm_threads_used)
        set_source_files_properties("${lookm_llama_dir}/ggml/src/ggml-quants.c"
                                    TARGET_DIRECTORY ggml-base
                                    PROPERTIES COMPILE_OPTIONS -fno-openmp)
    endif()
    lookm_limit_jinja("${lookm_llama_dir}")
    lookm_limit_rpc("${lookm_llama_dir}")
    if(LOOKM_BUILD_TESTING AND GGML_RPC)
        add_subdirectory("${lookm_llama_dir}/tools/rpc" "${CMAKE_BINARY_DIR}/llama.cpp/tools/rpc"
                         EXCLUDE_FROM_ALL SYSTEM)
    endif()
endmacro()

# Adds the targets of llama-server and of llama-ui, its web page, without the other tools that
# LLAMA_BUILD_TOOLS would add. They are built only on request: `ninja llama-server` builds the
# unmodified server.
#
# LOOKM_WEB_UI: AUTO builds the page from its sources if npm works, and continues without it if
# npm fails; ON fails without it (cpp/lookm/server/http.cpp); OFF leaves it out. llama.cpp's own
# build step does this in the build tree; npm fetches the versions that package-lock.json pins.
function(lookm_add_llama_server)
    set(PROJECT_SOURCE_DIR "${lookm_llama_dir}") # as within llama.cpp's own project
    find_program(LOOKM_NPM npm)
    set(has_npm FALSE)
    set(why_not "it was not found")
    if(LOOKM_NPM AND NOT LOOKM_WEB_UI STREQUAL "OFF")
        execute_process(COMMAND "${LOOKM_NPM}" --version RESULT_VARIABLE status
                        OUTPUT_QUIET ERROR_VARIABLE why_not)
        if(status EQUAL 0)
            set(has_npm TRUE)
        else()
            string(PREPEND why_not "${LOOKM_NPM} does not work: ")
        endif()
    endif()
    if(LOOKM_WEB_UI STREQUAL "ON" AND NOT has_npm)
        message(FATAL_ERROR "LOOKM_WEB_UI: ON needs npm, but ${why_not}\n"
                            "AUTO or OFF builds without the page")
    endif()
    if(has_npm)
        set(LLAMA_BUILD_UI ON)
    else()
        set(LLAMA_BUILD_UI OFF)
    endif()
    set(LLAMA_USE_PREBUILT_UI OFF)
    foreach(part IN ITEMS ui server)
        add_subdirectory("${lookm_llama_dir}/tools/${part}"
                         "${CMAKE_BINARY_DIR}/llama.cpp/tools/${part}" EXCLUDE_FROM_ALL SYSTEM)
    endforeach()
endfunction()
