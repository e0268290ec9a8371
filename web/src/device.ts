/** Choice of the device: the browser's GPU, or the CPU where there is none. */

import { SelvedgeError } from './errors.js';
import type { DeviceChoice, Notice } from './types.js';

/** The label that the module gives its device. */
const LABEL = 'selvedge';

/** A device, and the browser's description of it. */
export interface Device {
  readonly kind: 'gpu' | 'cpu';
  /** The GPU's name, as far as the browser tells. */
  readonly adapter: string;
  readonly software: boolean;
  /** Lanes of the smallest and of the largest subgroup; `null`: there are none. */
  readonly subgroups: readonly [number, number] | null;
}

const CPU: Device = { kind: 'cpu', adapter: 'CPU', software: false, subgroups: null };

/** The device for a choice; where it is the CPU for want of a GPU, the reason and what follows from it. */
interface Found {
  readonly device: Device;
  readonly without?: { readonly why: string; readonly then: string };
}

async function look(choice: DeviceChoice): Promise<Found> {
  if (choice === 'cpu') return { device: CPU };
  const gpu = (globalThis.navigator as Partial<Navigator> | undefined)?.gpu;
  // As the module will ask again for itself.
  const adapter = await gpu?.requestAdapter({ powerPreference: 'high-performance' });
  if (!adapter) {
    const why = gpu ? 'WebGPU finds no graphics adapter' : 'there is no WebGPU in this browser';
    return { device: CPU, without: { why, then: 'the model runs on the CPU, which is slow for all but small models' } };
  }
  const { info } = adapter;
  const told = [info.vendor, info.architecture, info.device, info.description].filter((part) => part);
  const name = told.length > 0 ? [...new Set(told)].join(' ') : 'WebGPU adapter';
  const software = info.isFallbackAdapter || /swiftshader|llvmpipe|lavapipe/i.test(name);
  if (software && choice === 'auto') {
    const then = 'the CPU computes the same faster by itself (`device: "gpu"` takes the adapter all the same)';
    return { device: CPU, without: { why: `the graphics adapter (${name}) is software`, then } };
  }
  // Between four and 128 lanes are what WebGPU promises of subgroups.
  const { subgroupMinSize: least = 4, subgroupMaxSize: most = 128 } = info as Partial<GPUAdapterInfo>;
  const subgroups = adapter.features.has('subgroups') ? ([least, most] as const) : null;
  return { device: { kind: 'gpu', adapter: name, software, subgroups } };
}

/** The reason for which a model would not run on a GPU though the choice allows one; `undefined` where it would. */
export async function withoutGpu(choice: DeviceChoice): Promise<string | undefined> {
  return (await look(choice)).without?.why;
}

/** Decides, and says so where it may surprise. */
export async function chooseDevice(choice: DeviceChoice, notice: (notice: Notice) => void): Promise<Device> {
  const { device, without } = await look(choice);
  if (without) {
    if (choice === 'gpu') throw new SelvedgeError('no-device', `${without.why}; \`device: "cpu"\` needs none`);
    notice({ code: 'cpu', message: `${without.why}: ${without.then}` });
  } else if (device.software) {
    const message = `the graphics adapter (${device.adapter}) is software: right answers, slowly`;
    notice({ code: 'software-gpu', message });
  }
  return device;
}

/** The load before has its device: two that wrap the same function at a time would undo each other. */
let before: Promise<void> = Promise.resolve();

/**
 * Runs `work`, in which the module opens its device, and gives that device too. wgpu's web backend never asks for
 * subgroups; they are added to the module's own request, which is known by its label.
 */
export async function withDevice<T>(device: Device, work: () => Promise<T>): Promise<[T, GPUDevice | undefined]> {
  const adapter = (globalThis as { GPUAdapter?: { prototype: GPUAdapter } }).GPUAdapter?.prototype;
  if (device.kind === 'cpu' || !adapter) return [await work(), undefined];
  const earlier = before;
  let done = () => {};
  before = new Promise((resolve) => (done = resolve));
  await earlier;

  let opened: GPUDevice | undefined;
  const original = adapter.requestDevice;
  const unwrap = () => {
    // Someone else may have wrapped it meanwhile: theirs stays.
    if (adapter.requestDevice === wrapped) adapter.requestDevice = original;
    done();
  };
  const wrapped = async function (this: GPUAdapter, descriptor?: GPUDeviceDescriptor): Promise<GPUDevice> {
    if (descriptor?.label !== LABEL) return original.call(this, descriptor);
    unwrap();
    const requiredFeatures = new Set(descriptor.requiredFeatures);
    if (device.subgroups) requiredFeatures.add('subgroups');
    opened = await original.call(this, { ...descriptor, requiredFeatures: [...requiredFeatures] });
    return opened;
  };
  adapter.requestDevice = wrapped;
  try {
    return [await work(), opened];
  } finally {
    unwrap();
  }
}
