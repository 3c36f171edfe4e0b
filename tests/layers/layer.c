// A Vulkan layer for tests: counts dispatches, and fails allocations.
//
//   GROKSCOPE_LAYER_COUNTS=FILE   writes "dispatches N" into FILE when a device is destroyed and when the process ends
//   GROKSCOPE_LAYER_BYTES=N       fails every allocation that would make it more than N bytes of device memory
#include "../../scripts/compilers/layer.h"
#include <stdio.h>
#include <stdlib.h>

static PFN_vkCmdDispatch next_dispatch;
static PFN_vkAllocateMemory next_allocate;
static PFN_vkFreeMemory next_free;
static PFN_vkDestroyDevice next_destroy_device;

static unsigned long dispatches;

static void write_counts(void) {
    const char *path = getenv("GROKSCOPE_LAYER_COUNTS");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (!file) return;
    fprintf(file, "dispatches %lu\n", dispatches);
    fclose(file);
}

static VKAPI_ATTR void VKAPI_CALL dispatch(VkCommandBuffer commands, uint32_t x, uint32_t y, uint32_t z) {
    __atomic_fetch_add(&dispatches, 1, __ATOMIC_RELAXED);
    next_dispatch(commands, x, y, z);
}

// Memory that is allocated, and how much each allocation has.
static struct { VkDeviceMemory memory; VkDeviceSize size; } held[65536];
static size_t held_count;
static VkDeviceSize total;
static int lock;

static void enter(void) { while (__atomic_exchange_n(&lock, 1, __ATOMIC_ACQUIRE)) {} }
static void leave(void) { __atomic_store_n(&lock, 0, __ATOMIC_RELEASE); }

static VKAPI_ATTR VkResult VKAPI_CALL
allocate(VkDevice device, const VkMemoryAllocateInfo *info, const VkAllocationCallbacks *callbacks, VkDeviceMemory *memory) {
    const char *bytes = getenv("GROKSCOPE_LAYER_BYTES");
    enter();
    VkResult result = VK_ERROR_OUT_OF_DEVICE_MEMORY;
    if (!bytes || total + info->allocationSize <= strtoull(bytes, NULL, 10))
        result = next_allocate(device, info, callbacks, memory);
    if (result == VK_SUCCESS && held_count < sizeof held / sizeof *held) {
        held[held_count].memory = *memory;
        held[held_count++].size = info->allocationSize;
        total += info->allocationSize;
    }
    leave();
    return result;
}

static VKAPI_ATTR void VKAPI_CALL release(VkDevice device, VkDeviceMemory memory, const VkAllocationCallbacks *callbacks) {
    enter();
    for (size_t n = 0; n < held_count; n++)
        if (held[n].memory == memory) {
            total -= held[n].size;
            held[n] = held[--held_count];
            break;
        }
    leave();
    next_free(device, memory, callbacks);
}

static VKAPI_ATTR void VKAPI_CALL destroy_device(VkDevice device, const VkAllocationCallbacks *callbacks) {
    write_counts();
    next_destroy_device(device, callbacks);
}

// The functions that the loader is given.

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL device_proc(VkDevice device, const char *name) {
    if (!strcmp(name, "vkGetDeviceProcAddr")) return FUNCTION(device_proc);
    PFN_vkVoidFunction next = next_device_proc(device, name);
    if (!strcmp(name, "vkCmdDispatch")) return next_dispatch = (PFN_vkCmdDispatch)next, FUNCTION(dispatch);
    if (!strcmp(name, "vkAllocateMemory")) return next_allocate = (PFN_vkAllocateMemory)next, FUNCTION(allocate);
    if (!strcmp(name, "vkFreeMemory")) return next_free = (PFN_vkFreeMemory)next, FUNCTION(release);
    if (!strcmp(name, "vkDestroyDevice"))
        return next_destroy_device = (PFN_vkDestroyDevice)next, FUNCTION(destroy_device);
    return next;
}

static VKAPI_ATTR VkResult VKAPI_CALL
create_counted_instance(const VkInstanceCreateInfo *info, const VkAllocationCallbacks *callbacks, VkInstance *instance) {
    atexit(write_counts);
    return create_instance(info, callbacks, instance);
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL instance_proc(VkInstance instance, const char *name) {
    if (!strcmp(name, "vkGetInstanceProcAddr")) return FUNCTION(instance_proc);
    if (!strcmp(name, "vkGetDeviceProcAddr")) return FUNCTION(device_proc);
    if (!strcmp(name, "vkCreateInstance")) return FUNCTION(create_counted_instance);
    if (!strcmp(name, "vkCreateDevice")) return FUNCTION(create_device);
    return next_instance_proc ? next_instance_proc(instance, name) : NULL;
}
