"""The judges of single pipelines by name, the quick ones first."""

import glslang
import hlsl
import msl
import ptxas
import radv
import spirv_val
import tint

JUDGES = {
    "tint": tint.judge,
    "spirv-val": spirv_val.judge,
    "radv": radv.judge,
    "glslang": glslang.judge,
    "msl": msl.judge,
    "dxc": lambda dump: hlsl.judge("dxc", dump),
    "ptxas": ptxas.judge,
    "fxc": lambda dump: hlsl.judge("fxc", dump),
}
