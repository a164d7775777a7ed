# With LOOKM_THREADS, ggml's find_package(OpenMP) finds this file: the compiler gets -fopenmp, and
# the linker gets cpp/lookm/threads instead of libgomp.
foreach(lang IN ITEMS C CXX)
    if(NOT TARGET OpenMP::OpenMP_${lang})
        add_library(OpenMP::OpenMP_${lang} INTERFACE IMPORTED)
        target_compile_options(OpenMP::OpenMP_${lang} INTERFACE
                               $<$<COMPILE_LANGUAGE:${lang}>:-fopenmp>)
        target_link_libraries(OpenMP::OpenMP_${lang} INTERFACE lookm_threads)
    endif()
endforeach()
set(OpenMP_FOUND TRUE)
