// A Vulkan layer that lets wgpu create pipelines on a driver without hardware: RADV with RADV_FORCE_FAMILY.
//
// Such a driver compiles shaders, but has no memory, no fences and no storage for commands. The layer adds two memory types, signals
// every fence at once, drops all commands, and hides timeline semaphores so that wgpu uses fences.
#include "layer.h"
#include <stdbool.h>

// The functions of the driver or of the next layer.
static PFN_vkGetPhysicalDeviceFeatures2 next_features2;
static PFN_vkGetBufferMemoryRequirements next_buffer_requirements;
static PFN_vkGetBufferMemoryRequirements2 next_buffer_requirements2;

// Features: no timeline semaphores.

static VKAPI_ATTR void VKAPI_CALL features2(VkPhysicalDevice device, VkPhysicalDeviceFeatures2 *features) {
    next_features2(device, features);
    for (VkBaseOutStructure *s = (VkBaseOutStructure *)features; s; s = s->pNext) {
        if (s->sType == VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_TIMELINE_SEMAPHORE_FEATURES)
            ((VkPhysicalDeviceTimelineSemaphoreFeatures *)s)->timelineSemaphore = VK_FALSE;
        if (s->sType == VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES)
            ((VkPhysicalDeviceVulkan12Features *)s)->timelineSemaphore = VK_FALSE;
    }
}

// Memory: a heap with two types, either of which can hold everything.

static const VkMemoryPropertyFlags LOCAL = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT;
static const VkMemoryPropertyFlags MAPPED =
    VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT | VK_MEMORY_PROPERTY_HOST_CACHED_BIT;
static const uint32_t BOTH_TYPES = 3;

static VKAPI_ATTR void VKAPI_CALL memory_properties(VkPhysicalDevice device, VkPhysicalDeviceMemoryProperties *memory) {
    (void)device;
    memset(memory, 0, sizeof *memory);
    memory->memoryHeapCount = 1;
    memory->memoryHeaps[0] = (VkMemoryHeap){ .size = 16ull << 30, .flags = VK_MEMORY_HEAP_DEVICE_LOCAL_BIT };
    memory->memoryTypeCount = 2;
    memory->memoryTypes[0].propertyFlags = LOCAL;
    memory->memoryTypes[1].propertyFlags = LOCAL | MAPPED;
}

static VKAPI_ATTR void VKAPI_CALL memory_properties2(VkPhysicalDevice device, VkPhysicalDeviceMemoryProperties2 *memory) {
    memory_properties(device, &memory->memoryProperties);
}

static VKAPI_ATTR void VKAPI_CALL buffer_requirements(VkDevice device, VkBuffer buffer, VkMemoryRequirements *requirements) {
    next_buffer_requirements(device, buffer, requirements);
    requirements->memoryTypeBits = BOTH_TYPES;
}

static VKAPI_ATTR void VKAPI_CALL
buffer_requirements2(VkDevice device, const VkBufferMemoryRequirementsInfo2 *info, VkMemoryRequirements2 *requirements) {
    next_buffer_requirements2(device, info, requirements);
    requirements->memoryRequirements.memoryTypeBits = BOTH_TYPES;
}

// Fences are numbers. Commands, submissions and waits do nothing and succeed.

static VKAPI_ATTR VkResult VKAPI_CALL
create_fence(VkDevice device, const VkFenceCreateInfo *info, const VkAllocationCallbacks *allocator, VkFence *fence) {
    (void)device, (void)info, (void)allocator;
    static uintptr_t count;
    *fence = (VkFence)++count;
    return VK_SUCCESS;
}

static uint64_t do_nothing(void) { return VK_SUCCESS; }

static bool does_nothing(const char *name) {
    static const char *names[] = {
        "vkBeginCommandBuffer", "vkEndCommandBuffer", "vkResetCommandBuffer", "vkResetCommandPool", "vkQueueSubmit",
        "vkQueueSubmit2",       "vkQueueWaitIdle",    "vkDeviceWaitIdle",     "vkWaitForFences",    "vkGetFenceStatus",
        "vkResetFences",        "vkDestroyFence",     "vkGetQueryPoolResults",
    };
    if (!strncmp(name, "vkCmd", 5)) return true;
    for (size_t n = 0; n < sizeof names / sizeof *names; n++)
        if (!strcmp(name, names[n])) return true;
    return false;
}

// The functions that the loader is given.

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL device_proc(VkDevice device, const char *name) {
    if (!strcmp(name, "vkGetDeviceProcAddr")) return FUNCTION(device_proc);
    if (!strcmp(name, "vkCreateFence")) return FUNCTION(create_fence);
    PFN_vkVoidFunction next = next_device_proc(device, name);
    if (next && does_nothing(name)) return FUNCTION(do_nothing);
    if (!strcmp(name, "vkGetBufferMemoryRequirements")) {
        next_buffer_requirements = (PFN_vkGetBufferMemoryRequirements)next;
        return FUNCTION(buffer_requirements);
    }
    if (!strcmp(name, "vkGetBufferMemoryRequirements2") || !strcmp(name, "vkGetBufferMemoryRequirements2KHR")) {
        if (!next) return NULL;
        next_buffer_requirements2 = (PFN_vkGetBufferMemoryRequirements2)next;
        return FUNCTION(buffer_requirements2);
    }
    return next;
}

static VKAPI_ATTR VkResult VKAPI_CALL
create_null_instance(const VkInstanceCreateInfo *info, const VkAllocationCallbacks *allocator, VkInstance *instance) {
    VkResult result = create_instance(info, allocator, instance);
    if (result != VK_SUCCESS) return result;
    next_features2 = (PFN_vkGetPhysicalDeviceFeatures2)next_instance_proc(*instance, "vkGetPhysicalDeviceFeatures2");
    if (!next_features2)
        next_features2 = (PFN_vkGetPhysicalDeviceFeatures2)next_instance_proc(*instance, "vkGetPhysicalDeviceFeatures2KHR");
    return result;
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL instance_proc(VkInstance instance, const char *name) {
    static const struct { const char *name; PFN_vkVoidFunction function; } ours[] = {
        { "vkGetInstanceProcAddr", FUNCTION(instance_proc) },
        { "vkGetDeviceProcAddr", FUNCTION(device_proc) },
        { "vkCreateInstance", FUNCTION(create_null_instance) },
        { "vkCreateDevice", FUNCTION(create_device) },
        { "vkGetPhysicalDeviceFeatures2", FUNCTION(features2) },
        { "vkGetPhysicalDeviceFeatures2KHR", FUNCTION(features2) },
        { "vkGetPhysicalDeviceMemoryProperties", FUNCTION(memory_properties) },
        { "vkGetPhysicalDeviceMemoryProperties2", FUNCTION(memory_properties2) },
        { "vkGetPhysicalDeviceMemoryProperties2KHR", FUNCTION(memory_properties2) },
    };
    for (size_t n = 0; n < sizeof ours / sizeof *ours; n++)
        if (!strcmp(name, ours[n].name)) return ours[n].function;
    return next_instance_proc ? next_instance_proc(instance, name) : NULL;
}
