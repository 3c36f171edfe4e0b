"""Compiles SPIR-V with the Vulkan driver of the environment, and prints the driver's statistics as JSON.

  PYTHON vulkan_statistics.py DUMP NAME ..      PYTHON: with PyPI's `vulkan`

Prints a line `@@@ NAME` on stderr before each pipeline, so that isa.py can split what RADV_DEBUG=shaders prints there.
"""

import json
import sys
from pathlib import Path

import vulkan as vk

CAPTURE_STATISTICS = 0x40
# VkPipelineExecutableStatisticFormatKHR
FIELDS = {0: "b32", 1: "i64", 2: "u64", 3: "f64"}

DESCRIPTORS = {True: vk.VK_DESCRIPTOR_TYPE_UNIFORM_BUFFER, False: vk.VK_DESCRIPTOR_TYPE_STORAGE_BUFFER}


def create_device():
    application = vk.VkApplicationInfo(pApplicationName="compilers", apiVersion=vk.VK_MAKE_VERSION(1, 3, 0))
    instance = vk.vkCreateInstance(vk.VkInstanceCreateInfo(pApplicationInfo=application), None)
    physical = vk.vkEnumeratePhysicalDevices(instance)[0]
    properties = vk.vkGetPhysicalDeviceProperties(physical)
    # The features that wgpu enables and its SPIR-V relies on.
    statistics = vk.VkPhysicalDevicePipelineExecutablePropertiesFeaturesKHR(pipelineExecutableInfo=vk.VK_TRUE)
    robustness2 = vk.VkPhysicalDeviceRobustness2FeaturesEXT(pNext=statistics, robustBufferAccess2=vk.VK_TRUE)
    vulkan12 = vk.VkPhysicalDeviceVulkan12Features(pNext=robustness2, vulkanMemoryModel=vk.VK_TRUE)
    vulkan13 = vk.VkPhysicalDeviceVulkan13Features(
        pNext=vulkan12,
        shaderZeroInitializeWorkgroupMemory=vk.VK_TRUE,
        subgroupSizeControl=vk.VK_TRUE,
        computeFullSubgroups=vk.VK_TRUE,
        maintenance4=vk.VK_TRUE,
    )
    extensions = ["VK_KHR_pipeline_executable_properties", "VK_EXT_robustness2"]
    queue = vk.VkDeviceQueueCreateInfo(queueFamilyIndex=0, queueCount=1, pQueuePriorities=[1.0])
    device = vk.vkCreateDevice(
        physical,
        vk.VkDeviceCreateInfo(
            pNext=vulkan13,
            queueCreateInfoCount=1,
            pQueueCreateInfos=[queue],
            enabledExtensionCount=len(extensions),
            ppEnabledExtensionNames=extensions,
            pEnabledFeatures=vk.VkPhysicalDeviceFeatures(robustBufferAccess=vk.VK_TRUE),
        ),
        None,
    )
    return device, properties.deviceName


def create_pipeline(device, dump, pipeline):
    code = (dump / f"{pipeline['name']}.spv").read_bytes()
    module = vk.vkCreateShaderModule(device, vk.VkShaderModuleCreateInfo(codeSize=len(code), pCode=code), None)
    bindings = [
        vk.VkDescriptorSetLayoutBinding(
            binding=binding["binding"],
            descriptorType=DESCRIPTORS[binding["uniform"]],
            descriptorCount=1,
            stageFlags=vk.VK_SHADER_STAGE_COMPUTE_BIT,
        )
        for binding in pipeline["bindings"]
    ]
    info = vk.VkDescriptorSetLayoutCreateInfo(bindingCount=len(bindings), pBindings=bindings)
    set_layout = vk.vkCreateDescriptorSetLayout(device, info, None)
    info = vk.VkPipelineLayoutCreateInfo(setLayoutCount=1, pSetLayouts=[set_layout])
    layout = vk.vkCreatePipelineLayout(device, info, None)
    stage = vk.VkPipelineShaderStageCreateInfo(
        stage=vk.VK_SHADER_STAGE_COMPUTE_BIT, module=module, pName=pipeline["entry"]
    )
    info = vk.VkComputePipelineCreateInfo(flags=CAPTURE_STATISTICS, stage=stage, layout=layout)
    return vk.vkCreateComputePipelines(device, None, 1, [info], None)[0]


def text(value):
    return value if isinstance(value, str) else vk.ffi.string(value).decode()


def statistics(device, pipeline):
    properties = vk.vkGetDeviceProcAddr(device, "vkGetPipelineExecutablePropertiesKHR")
    numbers = vk.vkGetDeviceProcAddr(device, "vkGetPipelineExecutableStatisticsKHR")
    [executable] = list(properties(device, vk.VkPipelineInfoKHR(pipeline=pipeline)))
    found = {"Subgroup size": executable.subgroupSize}
    info = vk.VkPipelineExecutableInfoKHR(pipeline=pipeline, executableIndex=0)
    for statistic in list(numbers(device, info)):
        found[text(statistic.name)] = getattr(statistic.value, FIELDS[statistic.format])
    return found


def main():
    dump, names = Path(sys.argv[1]), sys.argv[2:]
    device, device_name = create_device()
    found = {}
    for pipeline in json.loads((dump / "kernels.json").read_text()):
        name = pipeline["name"]
        if name not in names:
            continue
        print(f"\n@@@ {name}", file=sys.stderr, flush=True)
        try:
            found[name] = statistics(device, create_pipeline(device, dump, pipeline))
        except vk.VkError as error:
            found[name] = {"rejected": f"{type(error).__name__} {error}"}
    print(json.dumps({"device": device_name, "pipelines": found}))


main()
