// A Vulkan layer for tests: counts and times what reaches the driver, fails allocations, passes a renderer off as a graphics card, and makes a device hang.
//
//   GROKSCOPE_LAYER_COUNTS=FILE   writes a line "NAME N" into FILE for dispatches, allocations, submissions and the most bytes of device
//                                 memory, when a device is destroyed and when the process ends
//   GROKSCOPE_LAYER_TRACE=FILE    appends a line "NAME SUBMISSION DISPATCHES SECONDS" to FILE for each event: "submit", "finish" when
//                                 the driver has done a submission, "wait" when the program begins to wait for one
//   GROKSCOPE_LAYER_BYTES=N       fails every allocation that would make it more than N bytes of device memory
//   GROKSCOPE_LAYER_FAIL=N        fails the Nth allocation (from 1)
//   GROKSCOPE_LAYER_GPU=1         says that every device is a graphics card
//   GROKSCOPE_LAYER_HANG=N        accepts the Nth submission and all later ones but never executes them: fences and semaphores are not
//                                 signalled, and waiting for the device or the queue blocks for ever
#include "../../scripts/compilers/layer.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static PFN_vkCmdDispatch next_dispatch;
static PFN_vkAllocateMemory next_allocate;
static PFN_vkFreeMemory next_free;
static PFN_vkDestroyDevice next_destroy_device;
static PFN_vkBeginCommandBuffer next_begin;
static PFN_vkQueueSubmit next_submit;
static PFN_vkQueueWaitIdle next_queue_wait;
static PFN_vkDeviceWaitIdle next_device_wait;
static PFN_vkWaitSemaphores next_wait;
static PFN_vkGetPhysicalDeviceProperties next_properties;
static PFN_vkGetPhysicalDeviceProperties2 next_properties2;

static unsigned long dispatches, allocations, submissions, most_bytes;

static void write_counts(void) {
    const char *path = getenv("GROKSCOPE_LAYER_COUNTS");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (!file) return;
    fprintf(file, "dispatches %lu\nallocations %lu\nsubmissions %lu\nbytes %lu\n", dispatches, allocations, submissions, most_bytes);
    fclose(file);
}

// A variable of the environment as a number; 0 where it is not set.
static unsigned long long number(const char *name) {
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : 0;
}

static int lock;
static void enter(void) { while (__atomic_exchange_n(&lock, 1, __ATOMIC_ACQUIRE)) {} }
static void leave(void) { __atomic_store_n(&lock, 0, __ATOMIC_RELEASE); }

// Dispatches.

// How many each command buffer has.
static struct { VkCommandBuffer commands; unsigned long count; } recorded[4096];
static size_t recorded_count;

static unsigned long *of_commands(VkCommandBuffer commands) {
    for (size_t n = 0; n < recorded_count; n++)
        if (recorded[n].commands == commands) return &recorded[n].count;
    if (recorded_count == sizeof recorded / sizeof *recorded) abort();
    recorded[recorded_count].commands = commands;
    return &recorded[recorded_count++].count;
}

static VKAPI_ATTR VkResult VKAPI_CALL begin(VkCommandBuffer commands, const VkCommandBufferBeginInfo *info) {
    enter();
    *of_commands(commands) = 0;
    leave();
    return next_begin(commands, info);
}

static VKAPI_ATTR void VKAPI_CALL dispatch(VkCommandBuffer commands, uint32_t x, uint32_t y, uint32_t z) {
    enter();
    dispatches++;
    ++*of_commands(commands);
    leave();
    next_dispatch(commands, x, y, z);
}

// Submissions.

static void trace(const char *event, unsigned long submission, unsigned long count) {
    const char *path = getenv("GROKSCOPE_LAYER_TRACE");
    FILE *file = path ? fopen(path, "a") : NULL;
    if (!file) return;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    fprintf(file, "%s %lu %lu %.6f\n", event, submission, count, now.tv_sec + 1e-9 * now.tv_nsec);
    fclose(file);
}

// The semaphore that a submission raises to a value when it is done.
struct raised { VkDevice device; VkSemaphore semaphore; uint64_t value; unsigned long submission, count; };
static struct raised raised[65536];
static VkDevice last_device;

static void *watch(void *of) {
    struct raised *one = of;
    VkSemaphoreWaitInfo info = {VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO, NULL, 0, 1, &one->semaphore, &one->value};
    if (next_wait(one->device, &info, 600ull * 1000 * 1000 * 1000) == VK_SUCCESS)
        trace("finish", one->submission, one->count);
    return NULL;
}

static int hangs(void) {
    unsigned long long first = number("GROKSCOPE_LAYER_HANG");
    return first && submissions >= first;
}

static VKAPI_ATTR VkResult VKAPI_CALL submit(VkQueue queue, uint32_t count, const VkSubmitInfo *infos, VkFence fence) {
    enter();
    unsigned long this = ++submissions, of_this = 0;
    for (uint32_t n = 0; n < count; n++)
        for (uint32_t k = 0; k < infos[n].commandBufferCount; k++) of_this += *of_commands(infos[n].pCommandBuffers[k]);
    leave();
    if (hangs()) return VK_SUCCESS;
    VkResult result = next_submit(queue, count, infos, fence);
    if (!getenv("GROKSCOPE_LAYER_TRACE") || this >= sizeof raised / sizeof *raised) return result;
    trace("submit", this, of_this);
    for (uint32_t n = 0; n < count; n++) {
        const VkTimelineSemaphoreSubmitInfo *values = infos[n].pNext;
        while (values && values->sType != VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO) values = values->pNext;
        for (uint32_t k = 0; values && k < values->signalSemaphoreValueCount; k++) {
            if (!values->pSignalSemaphoreValues[k]) continue;
            struct raised of = {last_device, infos[n].pSignalSemaphores[k], values->pSignalSemaphoreValues[k], this, of_this};
            raised[this] = of;
            pthread_t thread;
            if (!pthread_create(&thread, NULL, watch, &raised[this])) pthread_detach(thread);
        }
    }
    return result;
}

static VKAPI_ATTR VkResult VKAPI_CALL wait_semaphores(VkDevice device, const VkSemaphoreWaitInfo *info, uint64_t timeout) {
    for (unsigned long n = 1; n <= submissions && n < sizeof raised / sizeof *raised; n++)
        for (uint32_t k = 0; timeout && k < info->semaphoreCount; k++)
            if (raised[n].semaphore == info->pSemaphores[k] && raised[n].value == info->pValues[k])
                trace("wait", n, raised[n].count);
    return next_wait(device, info, timeout);
}

static VKAPI_ATTR VkResult VKAPI_CALL queue_wait(VkQueue queue) {
    while (hangs()) pause();
    return next_queue_wait(queue);
}

static VKAPI_ATTR VkResult VKAPI_CALL device_wait(VkDevice device) {
    while (hangs()) pause();
    return next_device_wait(device);
}

// Kinds of devices.

static VKAPI_ATTR void VKAPI_CALL properties(VkPhysicalDevice device, VkPhysicalDeviceProperties *found) {
    next_properties(device, found);
    if (number("GROKSCOPE_LAYER_GPU")) found->deviceType = VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU;
}

static VKAPI_ATTR void VKAPI_CALL properties2(VkPhysicalDevice device, VkPhysicalDeviceProperties2 *found) {
    next_properties2(device, found);
    if (number("GROKSCOPE_LAYER_GPU")) found->properties.deviceType = VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU;
}

// Memory.

// What is allocated, and how much each allocation has.
static struct { VkDeviceMemory memory; VkDeviceSize size; } held[65536];
static size_t held_count;
static VkDeviceSize total;

static VKAPI_ATTR VkResult VKAPI_CALL
allocate(VkDevice device, const VkMemoryAllocateInfo *info, const VkAllocationCallbacks *callbacks, VkDeviceMemory *memory) {
    unsigned long long bytes = number("GROKSCOPE_LAYER_BYTES"), failing = number("GROKSCOPE_LAYER_FAIL");
    enter();
    VkResult result = VK_ERROR_OUT_OF_DEVICE_MEMORY;
    if (++allocations != failing && (!bytes || total + info->allocationSize <= bytes))
        result = next_allocate(device, info, callbacks, memory);
    if (result == VK_SUCCESS && held_count < sizeof held / sizeof *held) {
        held[held_count].memory = *memory;
        held[held_count++].size = info->allocationSize;
        total += info->allocationSize;
        if (total > most_bytes) most_bytes = total;
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
    last_device = device;
    if (!strcmp(name, "vkCmdDispatch")) return next_dispatch = (PFN_vkCmdDispatch)next, FUNCTION(dispatch);
    if (!strcmp(name, "vkAllocateMemory")) return next_allocate = (PFN_vkAllocateMemory)next, FUNCTION(allocate);
    if (!strcmp(name, "vkFreeMemory")) return next_free = (PFN_vkFreeMemory)next, FUNCTION(release);
    if (!strcmp(name, "vkBeginCommandBuffer")) return next_begin = (PFN_vkBeginCommandBuffer)next, FUNCTION(begin);
    if (!strcmp(name, "vkQueueSubmit")) return next_submit = (PFN_vkQueueSubmit)next, FUNCTION(submit);
    if (!strcmp(name, "vkQueueWaitIdle")) return next_queue_wait = (PFN_vkQueueWaitIdle)next, FUNCTION(queue_wait);
    if (!strcmp(name, "vkDeviceWaitIdle")) return next_device_wait = (PFN_vkDeviceWaitIdle)next, FUNCTION(device_wait);
    if (next && (!strcmp(name, "vkWaitSemaphores") || !strcmp(name, "vkWaitSemaphoresKHR")))
        return next_wait = (PFN_vkWaitSemaphores)next, FUNCTION(wait_semaphores);
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
    PFN_vkVoidFunction next = next_instance_proc ? next_instance_proc(instance, name) : NULL;
    if (next && !strcmp(name, "vkGetPhysicalDeviceProperties"))
        return next_properties = (PFN_vkGetPhysicalDeviceProperties)next, FUNCTION(properties);
    if (next && (!strcmp(name, "vkGetPhysicalDeviceProperties2") || !strcmp(name, "vkGetPhysicalDeviceProperties2KHR")))
        return next_properties2 = (PFN_vkGetPhysicalDeviceProperties2)next, FUNCTION(properties2);
    return next;
}
