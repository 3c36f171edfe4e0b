// Creates every pipeline of a dump with Dawn, whose WGSL compiler is Tint, on WebGPU's default limits.
//
//   node tint.mjs DUMP NAME ..      in a directory where npm has installed webgpu
//
// Prints JSON: the adapter, the limits, and for each pipeline null or why it is rejected.
import fs from 'node:fs';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const webgpu = createRequire(process.cwd() + '/').resolve('webgpu');
const { create, globals } = await import(pathToFileURL(webgpu));
Object.assign(globalThis, globals);

const [dump, ...names] = process.argv.slice(2);
const gpu = create([]); // Kept until the end: Dawn crashes if it is collected earlier.
const adapter = await gpu.requestAdapter();
if (!adapter) throw new Error('no adapter');
if (!adapter.features.has('subgroups')) throw new Error('the adapter has no subgroups');
// No limits are asked for: the device then has WebGPU's defaults.
const device = await adapter.requestDevice({ requiredFeatures: ['subgroups'] });

// Returns a shader module, or the errors of Tint.
async function compile(shader) {
  let code = fs.readFileSync(`${dump}/${shader}`, 'utf8');
  // naga 30 rejects the directive that WGSL demands for subgroup operations.
  if (shader.endsWith('_subgroup.wgsl')) code = 'enable subgroups;' + code;
  device.pushErrorScope('validation');
  const module = device.createShaderModule({ code });
  const { messages } = await module.getCompilationInfo();
  const error = await device.popErrorScope();
  if (!error) return { module };
  const lines = messages.filter(m => m.type === 'error').map(m => `${shader}:${m.lineNum}:${m.linePos} ${m.message}`);
  return { error: lines.join('; ') || error.message };
}

async function createPipeline(pipeline, module) {
  for (const filter of ['internal', 'out-of-memory', 'validation']) device.pushErrorScope(filter);
  let thrown;
  try {
    const compute = { module, entryPoint: pipeline.entry, constants: pipeline.overrides };
    device.createComputePipeline({ layout: 'auto', compute });
  } catch (error) {
    thrown = error;
  }
  const scopes = [await device.popErrorScope(), await device.popErrorScope(), await device.popErrorScope()];
  const errors = [thrown, ...scopes].filter(Boolean);
  return errors.length ? errors.map(error => error.message).join('; ') : null;
}

const compiled = new Map();
const pipelines = {};
for (const pipeline of JSON.parse(fs.readFileSync(`${dump}/kernels.json`))) {
  if (!names.includes(pipeline.name)) continue;
  if (!compiled.has(pipeline.shader)) compiled.set(pipeline.shader, await compile(pipeline.shader));
  const { module, error } = compiled.get(pipeline.shader);
  pipelines[pipeline.name] = error ?? (await createPipeline(pipeline, module));
}
const { description, device: name } = adapter.info;
const storageBuffers = device.limits.maxStorageBuffersPerShaderStage;
console.log(JSON.stringify({ adapter: `${description || name}`, storageBuffers, pipelines }));
process.exit(0);
