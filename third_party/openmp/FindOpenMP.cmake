# Found by ggml's find_package(OpenMP) where LOOKM_THREADS is on: gcc's -fopenmp for the compiler, and cpp/lookm/threads in
# place of libgomp for the linker.
foreach(lang IN ITEMS C CXX)
    if(NOT TARGET OpenMP::OpenMP_${lang})
        add_library(OpenMP::OpenMP_${lang} INTERFACE IMPORTED)
        target_compile_options(OpenMP::OpenMP_${lang} INTERFACE $<$<COMPILE_LANGUAGE:${lang}>:-fopenmp>)
        target_link_libraries(OpenMP::OpenMP_${lang} INTERFACE lookm_threads)
    endif()
endforeach()
set(OpenMP_FOUND TRUE)
