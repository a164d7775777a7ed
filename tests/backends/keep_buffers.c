// For tests on Mesa 22's lavapipe, by LD_PRELOAD: buffers and their memory are never destroyed. That driver follows every
// binding of a descriptor set, those too whose buffers are gone and which no shader uses (docs/backends.md).
#include <dlfcn.h>
#include <string.h>
#include <vulkan/vulkan.h>

static void keep_buffer(VkDevice device, VkBuffer buffer, const VkAllocationCallbacks * allocator) {
    (void) device, (void) buffer, (void) allocator;
}

static void keep_memory(VkDevice device, VkDeviceMemory memory, const VkAllocationCallbacks * allocator) {
    (void) device, (void) memory, (void) allocator;
}

static PFN_vkVoidFunction ours(const char * name) {
    if (strcmp(name, "vkDestroyBuffer") == 0) {
        return (PFN_vkVoidFunction) keep_buffer;
    }
    return strcmp(name, "vkFreeMemory") == 0 ? (PFN_vkVoidFunction) keep_memory : NULL;
}

static void * loaders(const char * name) {
    return dlsym(dlopen("libvulkan.so.1", RTLD_NOW), name);
}

PFN_vkVoidFunction vkGetInstanceProcAddr(VkInstance instance, const char * name) {
    const PFN_vkGetInstanceProcAddr next = (PFN_vkGetInstanceProcAddr) loaders("vkGetInstanceProcAddr");
    const PFN_vkVoidFunction found = ours(name);
    return found ? found : next(instance, name);
}

PFN_vkVoidFunction vkGetDeviceProcAddr(VkDevice device, const char * name) {
    const PFN_vkGetDeviceProcAddr next = (PFN_vkGetDeviceProcAddr) loaders("vkGetDeviceProcAddr");
    const PFN_vkVoidFunction found = ours(name);
    return found ? found : next(device, name);
}
